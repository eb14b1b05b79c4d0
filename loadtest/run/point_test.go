package main

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// TestPlannedCountsTheWaiting plays a generator that a stall of 500 ms holds up: by its
// own clock one request was slow, by the plan fifty were late.
func TestPlannedCountsTheWaiting(t *testing.T) {
	const rate, begin = 100, 12345 * time.Hour
	var results []result
	for seq := range uint64(300) {
		due := begin + time.Duration(seq)*10*ms
		r := result{seq: seq, sent: due, latency: ms}
		switch {
		case seq == 100:
			r.latency = 500 * ms
		case seq > 100 && due < begin+1500*ms:
			r.sent = begin + 1500*ms // sent when the stall was over
		}
		results = append(results, r)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(results), func(i, j int) { results[i], results[j] = results[j], results[i] })
	p, err := planned(results, rate, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if p.Planned != 300 || p.Sent != 300 || p.Dropped != 0 || p.Failed != 0 {
		t.Errorf("planned %d, sent %d, dropped %d, failed %d, want 300, 300, 0, 0", p.Planned, p.Sent, p.Dropped, p.Failed)
	}
	near := func(what string, got int64, want time.Duration) {
		t.Helper()
		if d := time.Duration(got) * time.Microsecond; d < want*99/100 || d > want*101/100 {
			t.Errorf("%s is %s, want %s", what, d, want)
		}
	}
	near("from send, p99", p.FromSend.P99, ms)
	near("from plan, p50", p.FromPlan.P50, ms)
	near("from plan, p90", p.FromPlan.P90, 201*ms) // the 30 slowest waited 201 ms and more
	near("from plan, p99", p.FromPlan.P99, 471*ms)
	near("lateness, p99", p.LateP99, 460*ms)
	if p.Achieved != 100 {
		t.Errorf("achieved %g per second, want 100", p.Achieved)
	}
}

func TestPlannedCountsWhatWasNotSent(t *testing.T) {
	results := []result{
		{seq: 0, sent: 0, latency: ms}, {seq: 1, sent: 10 * ms, latency: ms, failed: true},
		{seq: 100, sent: time.Second, latency: ms}, // due after the duration
	}
	p, err := planned(results, 100, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if p.Planned != 100 || p.Sent != 2 || p.Dropped != 98 || p.Failed != 1 {
		t.Errorf("planned %d, sent %d, dropped %d, failed %d, want 100, 2, 98, 1", p.Planned, p.Sent, p.Dropped, p.Failed)
	}
	if _, err := planned(nil, 100, time.Second); !errors.Is(err, errNoResults) {
		t.Errorf("no results: %v", err)
	}
}

func TestPlannedOfALongRun(t *testing.T) {
	const rate, seq = 1_000_000, 86_400_000_000 // a day: seq in nanoseconds would overflow
	p, err := planned([]result{{seq: 0, latency: ms}, {seq: seq, sent: 24*time.Hour + 5*ms, latency: ms}}, rate, 25*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(p.FromPlan.Max) * time.Microsecond; got < 6*ms || got > 7*ms {
		t.Errorf("the latest request took %s from its plan, want 6ms", got)
	}
}

func TestCapacity(t *testing.T) {
	got, err := capacity([]result{{sent: time.Second, latency: ms}, {sent: 2 * time.Second, latency: time.Second}, {sent: 2 * time.Second, failed: true}})
	if err != nil || got != 1 {
		t.Errorf("two good answers in two seconds are %g per second, %v", got, err)
	}
	if _, err := capacity([]result{{failed: true}}); err == nil {
		t.Error("a capacity without a good answer")
	}
}

func TestReadAttack(t *testing.T) {
	const text = `1700000000000000000,200,1500000,0,0,,,,0,GET,http://x/,aGVhZGVy
1700000000010000000,503,1000000,0,0,503 Service Unavailable,,,1,GET,http://x/,
1700000000020000000,0,2000000,0,0,"dial: refused, sorry",,,2,GET,http://x/,
1700000000030000000,0,2000000,0,0,"dial: refused, sorry",,,3,GET,http://x/,
`
	log, err := readAttack(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(log.results) != 4 || log.results[0].failed || !log.results[1].failed || log.results[2].latency != 2*ms || log.results[3].seq != 3 {
		t.Errorf("results are %+v", log.results)
	}
	if log.statuses["200"] != 1 || log.statuses["0"] != 2 || len(log.errors) != 2 {
		t.Errorf("statuses %v, errors %q", log.statuses, log.errors)
	}
	for _, bad := range []string{"1,200\n", "x,200,1,0,0,,,,0\n", "1,200,x,0,0,,,,0\n", "1,200,1,0,0,,,,x\n"} {
		if _, err := readAttack(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestReadSamples(t *testing.T) {
	const head = "metric_name,timestamp,metric_value,check,expected_response,status\n"
	k := newK6Log("http_req_duration")
	err := k.read(strings.NewReader(head + `http_reqs,1,1.000000,,true,200
http_req_duration,1,12.500000,,true,200
checks,1,1.000000,fine,,
checks,1,0.000000,digest,,
http_reqs,1,1.000000,,false,502
http_req_duration,1,2.500000,,false,502
iterations,1,1.000000,,,
iterations,1,1.000000,,,
dropped_iterations,1,3.000000,,,
`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.point(&load{rate: 5, duration: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if p.Requests != 2 || p.Failed != 2 || p.Dropped != 3 || p.Planned != 5 || p.Sent != 2 || p.FromPlan.Max/100 != 125 {
		t.Errorf("point is %+v", p)
	}
	if strings.Join(p.Errors, ",") != "check: digest,status 502" {
		t.Errorf("errors are %q", p.Errors)
	}
	if err := newK6Log("x").read(strings.NewReader("metric_name,metric_value\n")); err == nil {
		t.Error("columns are missing, and nobody said so")
	}
	if err := newK6Log("x").read(strings.NewReader(head + "checks,1,many,,,\n")); err == nil {
		t.Error("a value that is no number was accepted")
	}
	if _, err := newK6Log("x").point(&load{duration: time.Second}); !errors.Is(err, errNoResults) {
		t.Errorf("no samples: %v", err)
	}
	unchecked := newK6Log("m")
	if err := unchecked.read(strings.NewReader(head + "m,1,1.0,,,\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := unchecked.point(&load{duration: time.Second}); err == nil {
		t.Error("a script without a check was accepted")
	}
}

func TestStrideVisitsAll(t *testing.T) {
	for _, n := range []int{1, 2, 7, 100, 5000, 10000} {
		seen := make([]bool, n)
		for i := range n {
			seen[i*stride(n)%n] = true
		}
		for i, ok := range seen {
			if !ok {
				t.Fatalf("of %d, %d is never visited with stride %d", n, i, stride(n))
			}
		}
	}
}
