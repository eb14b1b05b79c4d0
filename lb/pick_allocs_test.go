//go:build !race

package lb

import (
	"math/rand/v2"
	"testing"
)

// No pick allocates: not where all is well, and not where most or all are out.
func TestPickAllocatesNothing(t *testing.T) {
	for name, open := range algorithms {
		for _, out := range []int{0, 1, 36, 40} {
			targets := weighing(cycle(40, 3, 2, 1)...)
			for i := range out {
				targets[i].State.Force(false, 0)
			}
			b := open(targets)
			r := &Request{Tried: make([]int, 0, 1)}
			if n := testing.AllocsPerRun(1000, func() {
				r.Hash, r.Now = rand.Uint64(), r.Now+1e5
				r.Tried = r.Tried[:0]
				if t := b.Pick(r); t != None {
					r.Tried = append(r.Tried, t)
					b.Pick(r)
				}
			}); n != 0 {
				t.Errorf("%s, %d of 40 out: %v allocations a pick", name, out, n)
			}
		}
	}
	key := []byte("f47ac10b-58cc-4372-a567-0e02b2c3d479")
	if n := testing.AllocsPerRun(1000, func() { _ = Hash(key) + NginxHash(key) }); n != 0 {
		t.Errorf("%v allocations a hash", n)
	}
}
