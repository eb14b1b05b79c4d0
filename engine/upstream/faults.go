package upstream

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// Faults counts failed attempts by kind. Safe for concurrent use.
type Faults struct {
	counters [kindCount]*metrics.Counter
}

// NewFaults returns the counters of set: sluice_upstream_faults_total{kind}.
func NewFaults(set *metrics.Set) *Faults {
	f := &Faults{}
	for k := kindNone + 1; k < kindCount; k++ {
		f.counters[k] = set.GetOrCreateCounter(fmt.Sprintf("sluice_upstream_faults_total{kind=%q}", k))
	}
	return f
}

func (f *Faults) count(k Kind) { f.counters[k].Inc() }
