//go:build !race

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// How the CPU time is measured. A machine that other tests keep busy may be half as fast as
// it was a second ago, so the subjects take turns of a few bursts. The order is drawn anew
// every time, as a subject with a fixed place always meets the caches of the same one before
// it: back and forth, the last would follow itself. A round is six turns of each.
const (
	measuredRounds = 40
	turnsPerRound  = 6
	turn           = 10 * time.Millisecond
)

// interleave measures the CPU time per request of each subject, in microseconds, round by round.
func interleave(t *testing.T, rounds int, subjects ...*load) [][]float64 {
	t.Helper()
	draw := rand.New(rand.NewPCG(1, 2))
	out := make([][]float64, len(subjects))
	cpu, _ := cpus(t)
	pinned(t, cpu, func() {
		for range rounds {
			for i, micros := range oneRound(t, draw, subjects) {
				out[i] = append(out[i], micros)
			}
		}
	})
	return out
}

// oneRound gives every subject its turns and returns what a request of each cost: that of
// the cheapest tenth of the bursts, since being interrupted and finding the caches of
// others only ever adds. On a machine loaded six times over this finds the planted tenth
// with p below 1e-5 where the median of the bursts has 5e-4.
func oneRound(t *testing.T, draw *rand.Rand, subjects []*load) []float64 {
	t.Helper()
	costs := make([][]float64, len(subjects))
	for range turnsPerRound {
		for _, i := range draw.Perm(len(subjects)) {
			s := subjects[i]
			s.burst(t) // its caches are cold, which tells nothing
			before := s.child.cpu(t)
			requests, pending := 0.0, true
			for end := time.Now().Add(turn); pending || time.Now().Before(end); {
				requests += float64(s.burst(t))
				// The kernel charges a process that keeps running only when it stops or the
				// timer ticks: a burst that is not charged yet is counted with the next.
				now := s.child.cpu(t)
				pending = now == before
				if !pending {
					costs[i] = append(costs[i], (now-before)/requests/1000)
					before, requests = now, 0
				}
			}
		}
	}
	micros := make([]float64, len(subjects))
	for i := range costs {
		micros[i] = stats.Quantile(costs[i], 0.1)
	}
	return micros
}

// wireFile writes a row as bench/wire does and returns the file's path.
func wireFile(t *testing.T, cpu, floor []float64) string {
	t.Helper()
	var rounds []string
	for i, ratio := range stats.Ratios(cpu, floor) {
		rounds = append(rounds, fmt.Sprintf(`{"cpu_us":%g,"ratio":%g}`, cpu[i], ratio))
	}
	text := fmt.Sprintf(`{"suite":"wire","commit":"planted","table":"proxied","row":"plain","floor":"relay","rounds":[%s]}`, strings.Join(rounds, ","))
	path := filepath.Join(t.TempDir(), "row.jsonl")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A hot path that a tenth more CPU time is spent on fails with the gate's own limits; the
// same gateway once more passes.
func TestGateFindsSlowerHotPath(t *testing.T) {
	service := startService(t)
	binary := buildGateway(t)
	relay := startRelay(t, service)
	plain, again := startGateway(t, binary, service), startGateway(t, binary, service)
	interleave(t, 4, relay, plain, again) // warm
	cost := stats.Median(interleave(t, 8, relay, plain, again)[1])
	spin := time.Duration(cost / 10 * float64(time.Microsecond))
	planted := startGateway(t, buildGateway(t, "-overlay", overlay(t)), service, plantedVariable+plantedSpin, fmt.Sprint(plantedSpinFor, spin))
	interleave(t, 4, planted)

	cpu := interleave(t, measuredRounds, relay, plain, again, planted)
	baseline := wireFile(t, cpu[1], cpu[0])
	f := func(what string, cpuMicros []float64, want int) {
		t.Helper()
		exit, printed := gate(t, "-baseline", baseline, wireFile(t, cpuMicros, cpu[0]))
		t.Logf("%s:\n%s", what, printed)
		if exit != want {
			t.Errorf("%s: status %d, want %d; plain costs %.2f us", what, exit, want, cost)
		}
	}
	f("a second instance", cpu[2], 0)
	f(fmt.Sprintf("%v more a request", spin), cpu[3], 1)
}
