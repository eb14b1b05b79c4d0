// Package cache keeps bytes under keys, off the heap: the store of answers.
//
//	s, err := cache.Open(cache.Config{Bytes: 1 << 30}, now)
//	err = s.Set(&cache.Put{Key: key, Head: head, Labels: labels, Expires: at, Born: seq}, body, now)
//	var v cache.View
//	if s.Get(key, now, &v) {
//		use(v.Head, v.Body)
//		v.Close()
//	}
//
// It knows neither HTTP nor the gateway. Time is an argument, in milliseconds since
// 1970; nothing here reads a clock or starts a goroutine.
//
// # Files
//
//	store.go    Config, Open, Close, Resize, Stats: shards, and which one has a key
//	put.go      Set, SetHead, Delete          writer.go  Create: a body in pieces
//	view.go     Get, Peek, View               purge.go   Rule, Purge: what is dead
//	sweep.go    Sweep, PurgeNow, Each: passes over all entries
//	shard.go    segments and the entries in them
//	evict.go    what has to go                ghost.go   what went lately
//	index.go    key to record                 record.go  the layout of an entry
//	segment.go  the layout of a segment       arena_*.go memory of the system
//	file.go     the layout of a file          journal.go purges in a file
//	recover.go  entries from a file
//
// # Memory
//
// The arena is mapped memory, which the garbage collector does not know of. It is cut
// into segments of 32 to 128 KiB. Each shard has its own; a shard is chosen by the
// hash of the key. A segment is a log to which records are appended, or part of a run:
// a chain of segments that hold the body of one large entry but its end, which is in
// its record, if it fills no more than half a segment. So nothing is ever fragmented
// but at the end of a log (two are open at a time, to fill it) and of a run.
//
// A record is
//
//	 0  8  sum, in a file
//	 8  8  state: up to which purge the entry was checked, and whether it is stale;
//	       0 is a dead entry
//	16  8  expiry, length of the key
//	24  8  lengths of the others
//	32  8  of a run: its first segment and its bytes; only where there is one
//	…      labels, key, head, end of the body; up to the next multiple of 8
//
// The index takes a word a slot, between a half and three quarters of which are used,
// and the ghost table half as much. With the record's 32 bytes and what fills it up
// that is 56 bytes an entry, measured with a million; at most 64. The index is taken
// off the bytes for segments: Bytes is all there is.
//
// # Eviction
//
// S3-FIFO, by segments. New entries are appended to the small queue, which has a tenth
// of the memory; those that were evicted lately, as the ghost table says, to the main
// queue. When a segment is needed and the small queue has more than its share, its
// oldest segment goes: entries that were read at least once are copied to the end of
// the main queue, the others are forgotten. (At least twice, as in the paper, had up
// to 0.8 points fewer hits in the traces of hitratio_test.go.) Else the oldest segment
// of the main queue goes, and entries that were read are copied to its end with one
// read less. No more than half a segment survives, those read most often, so that each
// eviction frees something and holds the lock for one segment's work. Before anything
// living goes, segments in which all or more than half is dead are emptied.
//
// # Locks
//
// A shard has a read-write lock. Get holds it for reading while it finds an entry,
// checks it and copies it out; a body beyond WholeMax is pinned instead, and read
// later. Whoever stores, removes or evicts holds it for writing, for one entry of at
// most half a segment and the evictions that make room for it; a larger body is copied
// without it. What readers change is atomic: how often an entry was read (in
// the index, and only up to three, so that the popular are not written to), its
// state, the counters. The lock of the rules is taken after that of a shard. Sweep
// holds a shard's lock for reading for one segment at a time.
//
// # Readers of large entries
//
// A run that is evicted, replaced or purged while it is read is in limbo: nothing
// finds it, its memory counts, and its last reader frees it. Evictions leave no more
// than a quarter of a shard in limbo: beyond that a run that is read stays. Purges,
// deletions and replacements do not wait for readers; while they have filled a quarter
// of the shard, no run is pinned more, and Get of one is a miss, counted as Pinned.
//
// # Purges
//
// Every purge has a number. An entry is dead if a rule that matches it is younger
// than its birth, whether it was stored before the purge or after. Rules of labels
// are two numbers a label; the entry remembers the last number that it was checked
// against, so that it is checked once a purge, when it is read, moved or swept, and
// costs one comparison otherwise. A pass over all entries makes rules needless; they
// are kept for another minute for fetches that go on, and who fetched longer may not
// store. There are at most 16,384 labels and 256 rules of several groups: for one
// more, Purge makes a pass itself.
//
// # Files on disk
//
// With Config.File the arena is a mapped file. What was stored survives Close and the
// death of the process at any moment, and so do purges. It does not survive that of
// the machine without Close: its kernel writes pages in any order, so the file then
// starts empty (as it does on a system that does not tell its lives apart, all but
// Linux). Open reads and verifies every byte, which is bound by the disk, or a
// fraction of a second a GiB where the pages are in memory; reads verify nothing.
// How often entries were read is not kept. Room on the disk is taken
// segment by segment: a full disk makes the store smaller, and a file that somebody
// else truncates while it is mapped ends the process.
//
// # Limits
//
//	head         64 KiB, less in a store below 16 MiB: with key and labels a segment
//	key          16 KiB, or a quarter of a segment
//	labels       32 an entry, 1,024 a rule
//	entry        ObjectMax, by default a 16th of the store up to 16 MiB
//	writers      three quarters of a shard; then ErrFull
//	a shard      32 GiB, of which there are up to 64
package cache
