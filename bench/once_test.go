//go:build !race

package bench

import (
	"testing"

	"github.com/sluice-gateway/sluice/bench/workload"
)

// TestBenchmarksOnce keeps the benchmarks from rotting.
func TestBenchmarksOnce(t *testing.T) { workload.Once(t, 150) }
