package limiter

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

func TestConcurrencyCountsWhatIsInFlight(t *testing.T) {
	c := NewConcurrency(100)
	f := func(key uint64, limit int64, want bool) {
		t.Helper()
		if ok := c.Enter(key, limit); ok != want {
			t.Errorf("Enter(%d, %d) = %v with %d in flight", key, limit, ok, c.InFlight(key))
		}
	}
	f(7, 0, false)
	f(7, 2, true)
	f(7, 2, true)
	f(7, 2, false)
	f(8, 1, true)
	c.Leave(7)
	f(7, 2, true)
	f(7, 3, true) // the limit belongs to the call
	if c.InFlight(7) != 3 || c.InFlight(9) != 0 || c.Len() != 2 {
		t.Errorf("in flight %d and %d, %d keys", c.InFlight(7), c.InFlight(9), c.Len())
	}
	for range 3 {
		c.Leave(7)
	}
	c.Leave(8)
	if c.Len() != 0 {
		t.Errorf("%d keys after all have left", c.Len())
	}
	defer func() {
		if recover() == nil {
			t.Error("one more Leave did not panic")
		}
	}()
	c.Leave(7)
}

func TestConcurrencyFullRefusesNewcomers(t *testing.T) {
	const keysMax = 64 * 8
	c := NewConcurrency(keysMax)
	var in []uint64
	for key := range uint64(10_000) {
		if c.Enter(key+1, 1) {
			in = append(in, key+1)
		}
	}
	if len(in) != keysMax || c.Len() != keysMax || c.Refused() != 10_000-keysMax || c.Forgotten() != 0 {
		t.Errorf("%d entered, %d in flight, refused %d, forgot %d", len(in), c.Len(), c.Refused(), c.Forgotten())
	}
	for _, key := range in {
		if c.Enter(key, 1) {
			t.Fatalf("key %d lost its count", key)
		}
		c.Leave(key)
	}
	// Entries at 0 are reused: a table that was full takes any number of others.
	for key := range uint64(100_000) {
		if !c.Enter(20_000+key, 1) {
			t.Fatalf("newcomer %d refused by an empty table", key)
		}
		c.Leave(20_000 + key)
	}
	c.checkChains(t)
}

func TestConcurrencyIsExact(t *testing.T) {
	const keys, limit = 50, 3
	c := NewConcurrency(1 << 12)
	var in [keys]atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 20_000 {
				key := r.Uint64N(keys)
				if c.Enter(key+1, limit) {
					if n := in[key].Add(1); n > limit {
						t.Errorf("key %d: %d in flight", key, n)
					}
					in[key].Add(-1)
					c.Leave(key + 1)
				}
				if other := 1000 + r.Uint64N(1<<20); c.Enter(other, 1) { // come, make shards grow, go
					c.Leave(other)
				}
			}
		})
	}
	wg.Wait()
	if c.Len() != 0 {
		t.Errorf("%d keys after all have left", c.Len())
	}
	c.checkChains(t)
}
