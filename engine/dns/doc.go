// Package dns turns names into addresses, off the request path: whoever serves
// requests watches the names it needs and is told when their addresses change.
// It imports nothing of ours and knows nothing of Kong's documents.
//
// A name goes through these steps, the first that knows it answers:
//
//	IP literal   itself, without a question, for ever
//	hosts file   all its lines for the name, until the file changes
//	localhost    127.0.0.1 or ::1, also without a hosts file
//	DNS          the types of Settings.Order in turn, each with the search
//	             domains that resolv.conf asks for; see resolve.go
//
// An answer lives as long as the shortest TTL it is made of. Then it is asked
// again: at once if the name is watched, with the next Lookup if not. What
// happens when that fails is decided in entry.go:
//
//	error        the old answer stays in use, marked Stale, for StaleTTL
//	             more; DNS is asked again after ErrorTTL, later less often
//	no such name asked once more a moment later, since servers do flap; when
//	             it is denied twice in a row, the old answer is dropped
//
// Watchers hear of changes only: neither an answer that is the same nor one that
// has become stale is news.
//
// Everything is bounded: 64 lookups under way in three lanes that cannot starve
// each other (schedule.go), one question at a time in each, 256 addresses a
// name, 8 steps of CNAME, CacheSize names.
//
//	resolver.go    Settings, Answer, Resolver: Open, Lookup, Close
//	watch.go       Watch: who is told
//	entry.go       what is known of one name: event and time in, decision out
//	schedule.go    when a name is asked: one goroutine, three heaps
//	resolve.go     which questions make a lookup
//	records.go     what of a reply is believed
//	server.go      which server is asked, and whom next
//	wire.go        one question over UDP, over TCP if cut short
//	resolvconf.go  resolv.conf
//	hosts.go       the hosts file
//	files.go       both are read again when they change
//	stats.go       counters
package dns
