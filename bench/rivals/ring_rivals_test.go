package rivals

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/buraksezer/consistent"
	"github.com/cespare/xxhash/v2"
	lafikl "github.com/lafikl/consistent"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/lb"
)

// The ring beside others: which of n targets of the same weight has a key of 36 bytes. Ours
// looks at the target's health too, and can give targets different weights; the others know
// neither. The settings:
//
//   - ours is ketama with its default of points, ours-bounded the same with a load of at most
//     125 % of a target's share.
//   - buraksezer puts keys into partitions and those on a ring, so that each member gets at most
//     125 % of its share of partitions. Its defaults for 3 and 100 members are 271 partitions,
//     which 1,000 members cannot share: they have 20,011. It hashes with xxhash here, as ours.
//   - lafikl has 10 points a host, hashed by BLAKE2b, neither of which can be chosen, and
//     lafikl-bounded is its way to pick among the hosts with less than 125 % of the mean load.
//
// A row of bounded load is the pick, its begin and the end of an older request, so that as
// many requests are in flight all the time as a busy gateway has.

// ringInFlight is how many requests one client keeps in flight in rows of bounded load.
const ringInFlight = 4096

// ringRival is a way to pick. open builds it over targets and returns what makes a client's
// way to pick: the name of the target of a key. A client is one goroutine's.
type ringRival struct {
	name    string
	bounded bool
	open    func(names []string) (client func() func(keys *workload.Keys, i int) string)
}

var ringRivals = []ringRival{
	{"ours", false, openOurRing},
	{"buraksezer", false, openBuraksezer},
	{"lafikl", false, openLafikl},
	{"ours-bounded", true, openOurBounded},
	{"lafikl-bounded", true, openLafiklBounded},
}

func ringNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250)
	}
	return names
}

func ringTargets(names []string) []lb.Target {
	targets := make([]lb.Target, len(names))
	for i, name := range names {
		targets[i] = lb.Target{Name: name, Weight: 1, State: lb.NewState()}
	}
	return targets
}

var ringClients atomic.Uint64

func openOurRing(names []string) func() func(*workload.Keys, int) string {
	targets := ringTargets(names)
	ring := lb.NewRing(targets, lb.RingOptions{})
	return func() func(*workload.Keys, int) string {
		r := lb.Request{Shard: ringClients.Add(1), Now: 1e6}
		return func(keys *workload.Keys, i int) string {
			r.Hash = lb.Hash(keys.At(i))
			r.Now += 100
			return targets[ring.Pick(&r)].Name
		}
	}
}

func openOurBounded(names []string) func() func(*workload.Keys, int) string {
	targets := ringTargets(names)
	ring := lb.NewRing(targets, lb.RingOptions{BalanceFactor: 125})
	return func() func(*workload.Keys, int) string {
		r := lb.Request{Shard: ringClients.Add(1), Now: 1e6}
		inFlight, turn := make([]*lb.State, ringInFlight), 0
		return func(keys *workload.Keys, i int) string {
			r.Hash = lb.Hash(keys.At(i))
			r.Now += 100
			t := &targets[ring.Pick(&r)]
			t.State.Begin()
			if old := inFlight[turn]; old != nil {
				old.End()
			}
			inFlight[turn] = t.State
			turn = (turn + 1) & (ringInFlight - 1)
			return t.Name
		}
	}
}

type ringMember string

func (m ringMember) String() string { return string(m) }

type ringHasher struct{}

func (ringHasher) Sum64(key []byte) uint64 { return xxhash.Sum64(key) }

func openBuraksezer(names []string) func() func(*workload.Keys, int) string {
	members := make([]consistent.Member, len(names))
	for i, name := range names {
		members[i] = ringMember(name)
	}
	config := consistent.Config{Hasher: ringHasher{}}
	if len(names) > 200 {
		config.PartitionCount = 20_011
	}
	ring := consistent.New(members, config)
	return func() func(*workload.Keys, int) string {
		return func(keys *workload.Keys, i int) string { return ring.LocateKey(keys.At(i)).String() }
	}
}

func newLafikl(names []string) *lafikl.Consistent {
	ring := lafikl.New()
	for _, name := range names {
		ring.Add(name)
	}
	return ring
}

func openLafikl(names []string) func() func(*workload.Keys, int) string {
	ring := newLafikl(names)
	return func() func(*workload.Keys, int) string {
		return func(keys *workload.Keys, i int) string {
			name, err := ring.Get(keys.TextAt(i))
			if err != nil {
				panic(err)
			}
			return name
		}
	}
}

func openLafiklBounded(names []string) func() func(*workload.Keys, int) string {
	ring := newLafikl(names)
	return func() func(*workload.Keys, int) string {
		inFlight, turn := make([]string, ringInFlight), 0
		return func(keys *workload.Keys, i int) string {
			name, err := ring.GetLeast(keys.TextAt(i))
			if err != nil {
				panic(err)
			}
			ring.Inc(name)
			if old := inFlight[turn]; old != "" {
				ring.Done(old)
			}
			inFlight[turn] = name
			turn = (turn + 1) & (ringInFlight - 1)
			return name
		}
	}
}

// ringSpread is how even a ring is. Both are 1 where it could not be better.
type ringSpread struct {
	// worst is the largest share of the keys in shares that all would have alike.
	worst float64
	// moved is how many keys have another target when the last one leaves, in shares.
	moved float64
	// unused is how many targets have no key.
	unused int
}

// spreadOf picks for many keys among all names, and among all but the last.
func spreadOf(rival ringRival, names []string, ids *workload.Keys) ringSpread {
	n := ids.Mask() + 1
	before, after := rival.open(names)(), rival.open(names[:len(names)-1])()
	counts, moved := map[string]int{}, 0
	for i := range n {
		owner := before(ids, i)
		counts[owner]++
		if after(ids, i) != owner {
			moved++
		}
	}
	most := 0
	for _, c := range counts {
		most = max(most, c)
	}
	share := float64(n) / float64(len(names))
	return ringSpread{float64(most) / share, float64(moved) / share, len(names) - len(counts)}
}

// TestRingRivals makes sure that all of them are consistent: a key stays where it is, and
// keeps its target when another one leaves, unless the load is bounded or, with buraksezer,
// partitions are.
func TestRingRivals(t *testing.T) {
	names, ids := ringNames(10), workload.NewIDs(1<<16)
	for _, rival := range ringRivals {
		t.Run(rival.name, func(t *testing.T) {
			if !rival.bounded {
				client := rival.open(names)()
				for i := range 1000 {
					if a, b := client(ids, i), client(ids, i); a != b {
						t.Fatalf("key %d has target %s, then %s", i, a, b)
					}
				}
			}
			s := spreadOf(rival, names, ids)
			if s.unused != 0 || s.worst > 2.5 {
				t.Errorf("the worst target has %.2f shares, %d have none", s.worst, s.unused)
			}
			if !rival.bounded && (s.moved <= 0 || s.moved > 2.5) {
				t.Errorf("%.2f shares of the keys move when one target of %d leaves", s.moved, len(names))
			}
			t.Logf("%+v", s)
		})
	}
}

var ringSink atomic.Int64

// BenchmarkRingRivals is one pick.
func BenchmarkRingRivals(b *testing.B) {
	eachRing(b, func(b *testing.B, client func() func(*workload.Keys, int) string) {
		pick, keys, sum := client(), workload.NewIDs(workload.IDsFew), 0
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			sum += len(pick(keys, i))
		}
		ringSink.Add(int64(sum))
	})
}

// BenchmarkRingRivalsParallel is the same on all cores at once.
func BenchmarkRingRivalsParallel(b *testing.B) {
	keys := workload.NewIDs(workload.IDsFew)
	eachRing(b, func(b *testing.B, client func() func(*workload.Keys, int) string) {
		b.ReportAllocs()
		b.ResetTimer() // the ring is built
		defer workload.ReportCPU(b)()
		b.RunParallel(func(pb *testing.PB) {
			pick, sum := client(), 0
			for i := rand.IntN(keys.Mask()); pb.Next(); i++ {
				sum += len(pick(keys, i))
			}
			ringSink.Add(int64(sum))
		})
	})
}

func eachRing(b *testing.B, run func(b *testing.B, client func() func(*workload.Keys, int) string)) {
	for _, n := range workload.Sizes(3, 100, 1000) {
		names := ringNames(n)
		for _, rival := range ringRivals {
			kind := map[bool]string{false: "plain", true: "bounded"}[rival.bounded]
			b.Run(fmt.Sprintf("%s/%d/%s", kind, n, rival.name), func(b *testing.B) {
				run(b, rival.open(names))
			})
		}
	}
}

// BenchmarkRingRivalsSpread builds a ring twice, with and without its last target, and picks
// for a million keys on both: what is of
// interest are the metrics, not the time. worst-x is the largest share that a target gets and
// moved-x how many keys move when one leaves, both in shares that all would have alike. Rings
// of bounded load spread by how many requests are in flight, and have neither.
func BenchmarkRingRivalsSpread(b *testing.B) {
	count := 1 << 20
	if testing.Short() {
		count = workload.IDsFew
	}
	ids := workload.NewIDs(count)
	for _, n := range workload.Sizes(3, 100, 1000) {
		names := ringNames(n)
		for _, rival := range ringRivals {
			if rival.bounded {
				continue
			}
			b.Run(fmt.Sprintf("%d/%s", n, rival.name), func(b *testing.B) {
				var s ringSpread
				b.ReportAllocs()
				for b.Loop() {
					s = spreadOf(rival, names, ids)
				}
				b.ReportMetric(s.worst, "worst-x")
				b.ReportMetric(s.moved, "moved-x")
			})
		}
	}
}
