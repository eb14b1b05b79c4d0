package limiter

import (
	"math/rand/v2"
	"testing"
)

var sink int64

func BenchmarkPeriodStart(b *testing.B) {
	for p := Second; p <= Year; p++ {
		b.Run(p.String(), func(b *testing.B) {
			b.ReportAllocs()
			now := monday
			for b.Loop() {
				now++
				sink += p.Start(now)
			}
		})
	}
}

// BenchmarkGrow is what the unlucky request pays that makes a shard double, at
// the largest size of a table with a million keys.
func BenchmarkGrow(b *testing.B) {
	w := newLimited([]limit{{Minute, 1 << 40}}, 1<<20)
	var used [1]int64
	r := rand.New(rand.NewPCG(1, 2))
	for w.used() < 64*6500 {
		w.take(r.Uint64(), monday, used[:])
	}
	s := &w.shards[0]
	slots, size, n := s.slots, s.size, s.used
	starts := []int64{Minute.Start(monday)}
	b.ReportAllocs()
	b.ReportMetric(float64(n), "keys")
	for b.Loop() {
		s.slots, s.size, s.used = slots, size, n
		w.rebuild(s, starts, monday)
	}
}
