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
	a, n := s.slots.Load(), s.used
	b.ReportAllocs()
	b.ReportMetric(float64(n), "keys")
	for b.Loop() {
		s.slots.Store(a)
		s.used = n
		w.rebuild(s, w.live(monday))
		for at := 1; at < len(a.words); at += w.stride {
			a.words[at] &^= 1
		}
	}
}
