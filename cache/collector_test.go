//go:build !race

package cache

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
)

// The collector neither sees what is stored nor takes longer for it.
func TestCollector(t *testing.T) {
	mib := 512
	if n, err := strconv.Atoi(os.Getenv("SLUICE_CACHE_GC_MIB")); err == nil {
		mib = n
	}
	least := func() time.Duration {
		times := make([]time.Duration, 25)
		for i := range times {
			start := time.Now()
			runtime.GC()
			times[i] = time.Since(start)
		}
		return slices.Min(times)
	}
	before := least()
	s := mustOpen(t, Config{Bytes: int64(mib) << 20}, 0)
	defer s.Close(0)
	fillNumbers(t, s, mib<<20/1200, 1000)
	after := least()
	t.Logf("%d entries, %d MiB: a collection takes %v, %v without", s.Stats().Entries, mib, after, before)
	if after > 2*before+4*time.Millisecond {
		t.Errorf("a collection takes %v with %d MiB, %v without", after, mib, before)
	}
}
