package rivals

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/fastcache"
	"github.com/allegro/bigcache/v3"
	"github.com/coocood/freecache"
	"github.com/maypok86/otter/v2"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/cache"
)

// The store beside others, all in one run. What is the same for all of them:
//
//   - Every entry has an expiry, which is looked at when it is read. fastcache has none,
//     and bigcache one lifetime for all that only a pass each second ends: their users
//     put the expiry before the value and check it, as is done here.
//   - A read ends with the value in memory that its caller may keep while others write,
//     as a response is written from a buffer. ours, fastcache and freecache copy to
//     the caller's; bigcache makes a new copy; otter's value lies on the heap and
//     is copied here. It could be sent without a copy.
//   - A read that finds nothing stores the entry, as a cache's user does.
//   - Nobody reads the system's clock: ours and those who check themselves are handed
//     the time of rivalClock, freecache and otter ask for it, as they allow.
//   - Keys are ready for use, as bytes and as a string. bigcache and otter are spared the
//     string that is made of a request's bytes; keys and values are made new for otter
//     when they are stored, as it keeps them.

// rivalStore is one of the stores with what one goroutine needs to use it. The
// value that get returns is valid until its next call.
type rivalStore interface {
	get(key rivalKey) (value []byte, ok bool)
	set(key rivalKey, value []byte)
}

type rivalKey struct {
	bytes []byte
	text  string
}

// rival opens a store of size bytes for n entries; handle is called by each goroutine.
type rival struct {
	name string
	open func(tb testing.TB, size, n int) (handle func() rivalStore, close func())
}

var storeRivals = []rival{
	{"ours", openOurs},
	{"fastcache", openFastcache},
	{"freecache", openFreecache},
	{"bigcache", openBigcache},
	{"otter", openOtter},
}

var rivalSink atomic.Int64

// rivalClock is in milliseconds since 1970.
var rivalClock atomic.Int64

func rivalExpires() int64 { return rivalClock.Load() + workload.EntryTTL }

type ourRival struct {
	s    *cache.Store
	view cache.View
	put  cache.Put
}

func openOurs(tb testing.TB, size, _ int) (func() rivalStore, func()) {
	s, err := cache.Open(cache.Config{Bytes: int64(size)}, rivalClock.Load())
	if err != nil {
		tb.Fatal(err)
	}
	return func() rivalStore { return &ourRival{s: s, put: cache.Put{Labels: []uint32{1}}} },
		func() { s.Close(rivalClock.Load()) }
}

func (r *ourRival) get(key rivalKey) ([]byte, bool) {
	r.view.Close()
	if !r.s.Get(key.bytes, rivalClock.Load(), &r.view) {
		return nil, false
	}
	return r.view.Body, true
}

func (r *ourRival) set(key rivalKey, value []byte) {
	r.put.Key, r.put.Expires = key.bytes, rivalExpires()
	r.s.Set(&r.put, value, rivalClock.Load())
}

// stamped returns a value behind its expiry.
func stamped(dst, value []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst[:0], uint64(rivalExpires()))
	return append(dst, value...)
}

// unstamped returns the value, if it has not expired.
func unstamped(stamped []byte) ([]byte, bool) {
	if len(stamped) < 8 || int64(binary.LittleEndian.Uint64(stamped)) <= rivalClock.Load() {
		return nil, false
	}
	return stamped[8:], true
}

type fastcacheRival struct {
	c   *fastcache.Cache
	buf []byte
}

func openFastcache(_ testing.TB, size, _ int) (func() rivalStore, func()) {
	c := fastcache.New(size)
	return func() rivalStore { return &fastcacheRival{c: c} }, c.Reset
}

func (r *fastcacheRival) get(key rivalKey) ([]byte, bool) {
	r.buf = r.c.Get(r.buf[:0], key.bytes)
	return unstamped(r.buf)
}

func (r *fastcacheRival) set(key rivalKey, value []byte) {
	r.buf = stamped(r.buf, value)
	r.c.Set(key.bytes, r.buf)
}

type freecacheRival struct {
	c   *freecache.Cache
	buf []byte
}

type freecacheClock struct{}

func (freecacheClock) Now() uint32 { return uint32(rivalClock.Load() / 1000) }

func openFreecache(_ testing.TB, size, _ int) (func() rivalStore, func()) {
	c := freecache.NewCacheCustomTimer(size, freecacheClock{})
	return func() rivalStore { return &freecacheRival{c, make([]byte, workload.EntryValueBytes)} }, func() {}
}

func (r *freecacheRival) get(key rivalKey) ([]byte, bool) {
	value, err := r.c.GetWithBuf(key.bytes, r.buf)
	return value, err == nil
}

func (r *freecacheRival) set(key rivalKey, value []byte) {
	r.c.Set(key.bytes, value, workload.EntryTTL/1000)
}

type bigcacheRival struct {
	c   *bigcache.BigCache
	buf []byte
}

func openBigcache(tb testing.TB, size, n int) (func() rivalStore, func()) {
	c, err := bigcache.New(context.Background(), bigcache.Config{
		Shards:             1024,
		LifeWindow:         24 * time.Hour,
		MaxEntriesInWindow: n,
		MaxEntrySize:       workload.EntryBytesMax,
		HardMaxCacheSize:   size >> 20,
		Logger:             log.New(io.Discard, "", 0),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return func() rivalStore { return &bigcacheRival{c: c} }, func() { c.Close() }
}

func (r *bigcacheRival) get(key rivalKey) ([]byte, bool) {
	value, err := r.c.Get(key.text)
	if err != nil {
		return nil, false
	}
	return unstamped(value)
}

func (r *bigcacheRival) set(key rivalKey, value []byte) {
	r.buf = stamped(r.buf, value)
	r.c.Set(key.text, r.buf)
}

type otterRival struct {
	c   *otter.Cache[string, []byte]
	buf []byte
}

type otterClock struct{}

func (otterClock) NowNano() int64                      { return rivalClock.Load() * 1e6 }
func (otterClock) Tick(time.Duration) <-chan time.Time { return nil }

func openOtter(tb testing.TB, size, n int) (func() rivalStore, func()) {
	c, err := otter.New(&otter.Options[string, []byte]{
		MaximumWeight:    uint64(size),
		Weigher:          func(key string, value []byte) uint32 { return uint32(len(key) + len(value)) },
		InitialCapacity:  n,
		ExpiryCalculator: otter.ExpiryWriting[string, []byte](workload.EntryTTL * time.Millisecond),
		Clock:            otterClock{},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return func() rivalStore { return &otterRival{c: c} }, func() { c.StopAllGoroutines() }
}

func (r *otterRival) get(key rivalKey) ([]byte, bool) {
	value, ok := r.c.GetIfPresent(key.text)
	r.buf = append(r.buf[:0], value...)
	return r.buf, ok
}

func (r *otterRival) set(key rivalKey, value []byte) {
	r.c.Set(strings.Clone(key.text), slices.Clone(value))
}

// TestStoreRivals makes sure that all of them do what is measured.
func TestStoreRivals(t *testing.T) {
	key := rivalKey{[]byte("key"), "key"}
	value := bytes.Repeat([]byte{7}, workload.EntryValueBytes)
	for _, rival := range storeRivals {
		rivalClock.Store(workload.NowMillis)
		handle, closeIt := rival.open(t, 64<<20, 1000)
		s := handle()
		if _, ok := s.get(key); ok {
			t.Errorf("%s: found before it was stored", rival.name)
		}
		s.set(key, value)
		if got, ok := s.get(key); !ok || !bytes.Equal(got, value) {
			t.Errorf("%s: found %d bytes, %v", rival.name, len(got), ok)
		}
		rivalClock.Add(workload.EntryTTL)
		if _, ok := s.get(key); ok {
			t.Errorf("%s: found when it had expired", rival.name)
		}
		closeIt()
	}
}

func keyAt(k *workload.Keys, i int) rivalKey { return rivalKey{k.At(i), k.TextAt(i)} }

// fillRival stores n entries in random order.
func fillRival(s rivalStore, n int) {
	value := make([]byte, workload.EntryValueBytes)
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(n) {
		key := workload.AppendEntryKey(nil, i)
		s.set(rivalKey{key, string(key)}, value)
	}
}

// churnRival stores entries again, n times in all, so that those who append have come to
// the end of their memory: pages of the system that were never used cost more.
func churnRival(s rivalStore, keys *workload.Keys, n int) {
	value := make([]byte, workload.EntryValueBytes)
	for i := range n {
		s.set(keyAt(keys, i), value)
	}
}

// BenchmarkStoreRivals is reads, and the same with every tenth a write, of entries of
// 1 KiB by a Zipf distribution of 0.9, in half as much memory again as they need. hit-%
// says how many reads found something: what fastcache and bigcache store again lies
// there twice, and its second copy takes the place of others.
func BenchmarkStoreRivals(b *testing.B) {
	rivalClock.Store(workload.NowMillis)
	for _, n := range workload.Sizes(10_000, 100_000, 1_000_000) {
		keys := workload.NewEntryKeys(n, workload.Zipf(rand.New(rand.NewPCG(5, 6)), n, 0.9))
		for _, rival := range storeRivals {
			b.Run(fmt.Sprintf("entries=%d/%s", n, rival.name), func(b *testing.B) {
				handle, closeIt := rival.open(b, n*workload.EntryBytesMax*3/2, n)
				fillRival(handle(), n)
				runtime.GC() // what filling left behind is not part of it
				b.Run("sets=0", func(b *testing.B) { benchmarkStoreRival(b, handle, keys, 0) })
				churnRival(handle(), keys, n)
				b.Run("sets=10", func(b *testing.B) { benchmarkStoreRival(b, handle, keys, 10) })
				closeIt()
			})
		}
	}
}

func benchmarkStoreRival(b *testing.B, handle func() rivalStore, keys *workload.Keys, setPercent int) {
	var misses atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		s, value := handle(), make([]byte, workload.EntryValueBytes)
		sum, missed, i, turn := 0, 0, rand.IntN(keys.Mask()), 0
		for pb.Next() {
			i++
			key := keyAt(keys, i)
			if turn += setPercent; turn >= 100 {
				turn -= 100
				s.set(key, value)
				continue
			}
			found, ok := s.get(key)
			if !ok {
				missed++
				s.set(key, value)
			}
			sum += len(found)
		}
		rivalSink.Add(int64(sum))
		misses.Add(int64(missed))
	})
	b.ReportMetric(100-float64(misses.Load())/float64(b.N)*1e4/float64(100-setPercent), "hit-%")
}

// BenchmarkStoreRivalsHits is how many requests of one trace are answered from 64 MiB,
// as each counts them: ours with its index, the others without, otter the keys and
// values alone. An operation is the whole trace: a million requests, four fifths of
// them by a Zipf distribution of 0.9 over 200 MiB, the others for what nobody asks for
// again. The first quarter fills the cache and is not counted.
func BenchmarkStoreRivalsHits(b *testing.B) {
	rivalClock.Store(workload.NowMillis)
	const (
		size    = 64 << 20
		objects = 200 << 20 / (workload.EntryValueBytes + 100)
	)
	requests := workload.Size(1_000_000)
	warm := requests / 4
	r := rand.New(rand.NewPCG(5, 6))
	popular, next := workload.Zipf(r, objects, 0.9), objects
	trace := workload.NewEntryKeys(objects, func() int {
		if r.IntN(5) == 0 {
			next++
			return next
		}
		return popular()
	})
	for _, rival := range storeRivals {
		b.Run(rival.name, func(b *testing.B) {
			value, hits, runs := make([]byte, workload.EntryValueBytes), 0, 0
			b.ReportAllocs()
			defer workload.ReportCPU(b)()
			for b.Loop() {
				handle, closeIt := rival.open(b, size, size/workload.EntryBytesMax)
				s := handle()
				for i := range requests {
					key := keyAt(trace, i)
					if _, ok := s.get(key); !ok {
						s.set(key, value)
					} else if i >= warm {
						hits++
					}
				}
				runs++
				closeIt()
			}
			b.ReportMetric(100*float64(hits)/float64(runs*(requests-warm)), "hit-%")
		})
	}
}

// noStore keeps nothing.
type noStore struct{}

func (noStore) get(rivalKey) ([]byte, bool) { return nil, false }
func (noStore) set(rivalKey, []byte)        {}

// BenchmarkStoreRivalsGC is a whole garbage collection beside 256 MiB of entries.
func BenchmarkStoreRivalsGC(b *testing.B) {
	rivalClock.Store(workload.NowMillis)
	n := workload.Size(256 << 20 / (workload.EntryValueBytes + 100))
	run := func(name string, open func(b *testing.B) (handle func() rivalStore, close func())) {
		b.Run(name, func(b *testing.B) {
			handle, closeIt := open(b)
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			cpu := workload.ReportCPU(b)
			for b.Loop() {
				runtime.GC()
			}
			cpu()
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "gc-us")
			runtime.KeepAlive(handle)
			closeIt()
		})
	}
	run("nothing", func(*testing.B) (func() rivalStore, func()) {
		fillRival(noStore{}, n) // the same garbage
		return nil, func() {}
	})
	for _, rival := range storeRivals {
		run(rival.name, func(b *testing.B) (func() rivalStore, func()) {
			handle, closeIt := rival.open(b, n*workload.EntryBytesMax*3/2, n)
			fillRival(handle(), n)
			return handle, closeIt
		})
	}
}
