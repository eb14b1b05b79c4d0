package bench

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/lb"
)

var ringSink atomic.Int64

// ringAlgorithms are all ways to pick. A hash is what the caller makes of the
// request's key, and its time counts.
var ringAlgorithms = []struct {
	name string
	hash func([]byte) uint64
	open func([]lb.Target) lb.Balancer
}{
	{"roundrobin", nil, func(t []lb.Target) lb.Balancer { return lb.NewRoundRobin(t) }},
	{"ketama", lb.Hash, func(t []lb.Target) lb.Balancer { return lb.NewRing(t, lb.RingOptions{}) }},
	{"ketama-bounded", lb.Hash, func(t []lb.Target) lb.Balancer {
		return lb.NewRing(t, lb.RingOptions{BalanceFactor: 125})
	}},
	{"ketama-nginx", lb.NginxHash, func(t []lb.Target) lb.Balancer { return lb.NewRing(t, lb.RingOptions{Nginx: true}) }},
	{"leastconnections", nil, func(t []lb.Target) lb.Balancer { return lb.NewLeastConnections(t) }},
	{"latency", nil, func(t []lb.Target) lb.Balancer { return lb.NewLatency(t) }},
}

// ringTargets returns n targets of weights 1, 2 and 3 which are all in, have
// requests in flight and have answered in 5 to 15 ms.
func ringTargets(n int) []lb.Target {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	targets := make([]lb.Target, n)
	for i := range targets {
		s := lb.NewState()
		for range 100 + r.IntN(20) {
			s.Begin()
		}
		s.Observe(1, int64(5*time.Millisecond)+r.Int64N(int64(10*time.Millisecond)))
		targets[i] = lb.Target{Name: fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250), Weight: 1 + i%3, State: s}
	}
	return targets
}

// BenchmarkPick is one decision: the hash of a key where there is one, and the pick.
func BenchmarkPick(b *testing.B) {
	keys := workload.NewIDs(workload.IDsFew)
	for _, a := range ringAlgorithms {
		for _, n := range []int{3, 100, 1000} {
			balancer := a.open(ringTargets(n))
			b.Run(a.name+"/"+strconv.Itoa(n), func(b *testing.B) {
				b.ReportAllocs()
				defer workload.ReportCPU(b)()
				var sum int64
				r := lb.Request{Shard: 1, Now: 1e6}
				for i := 0; b.Loop(); i++ {
					if a.hash != nil {
						r.Hash = a.hash(keys.At(i))
					}
					r.Now += 100
					sum += int64(balancer.Pick(&r))
				}
				ringSink.Add(sum)
			})
		}
	}
}

// BenchmarkPickParallel is BenchmarkPick on all cores at once. Each is a client
// with a Shard of its own.
func BenchmarkPickParallel(b *testing.B) {
	keys := workload.NewIDs(workload.IDsFew)
	for _, a := range ringAlgorithms {
		for _, n := range []int{3, 100, 1000} {
			balancer := a.open(ringTargets(n))
			b.Run(a.name+"/"+strconv.Itoa(n), func(b *testing.B) { benchmarkPickParallel(b, balancer, keys, a.hash) })
		}
	}
}

func benchmarkPickParallel(b *testing.B, balancer lb.Balancer, keys *workload.Keys, hash func([]byte) uint64) {
	var clients atomic.Uint64
	b.ReportAllocs()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var sum int64
		r := lb.Request{Shard: clients.Add(1), Now: 1e6}
		for i := rand.IntN(1 << 13); pb.Next(); i++ {
			if hash != nil {
				r.Hash = hash(keys.At(i))
			}
			r.Now += 100
			sum += int64(balancer.Pick(&r))
		}
		ringSink.Add(sum)
	})
}

// BenchmarkPickDegraded is the pick from 100 targets of which 90 are out.
func BenchmarkPickDegraded(b *testing.B) {
	keys := workload.NewIDs(workload.IDsFew)
	for _, a := range ringAlgorithms {
		targets := ringTargets(100)
		for i := range targets {
			if i%10 != 0 {
				targets[i].State.Force(false, 0)
			}
		}
		balancer := a.open(targets)
		b.Run(a.name, func(b *testing.B) { benchmarkPickParallel(b, balancer, keys, a.hash) })
	}
}

// BenchmarkPickNone is the pick from 100 targets which are all out: all of the
// work that a pick can be made to do.
func BenchmarkPickNone(b *testing.B) {
	keys := workload.NewIDs(workload.IDsFew)
	for _, a := range ringAlgorithms {
		targets := ringTargets(100)
		for i := range targets {
			targets[i].State.Force(false, 0)
		}
		balancer := a.open(targets)
		b.Run(a.name, func(b *testing.B) { benchmarkPickParallel(b, balancer, keys, a.hash) })
	}
}

// BenchmarkRingBuild is what a changed list of targets costs.
func BenchmarkRingBuild(b *testing.B) {
	for _, a := range ringAlgorithms {
		for _, n := range []int{3, 100, 1000, 10_000} {
			targets := ringTargets(n)
			b.Run(a.name+"/"+strconv.Itoa(n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ringSink.Add(int64(a.open(targets).Pick(&lb.Request{})))
				}
			})
		}
	}
}
