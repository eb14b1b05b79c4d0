package main

import (
	"math"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// spread returns n ratios around the middle, none equal to another.
func spread(middle float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = middle * (1 + 0.001*(float64(i)-float64(n-1)/2))
	}
	return out
}

// judged compares two texts and checks what is said.
func judged(t *testing.T, baseline, result string, wantFailures, wantNotes []string) *judgement {
	t.Helper()
	j := judge(measure(t, baseline), measure(t, result), usual)
	checkMessages(t, j, fail, wantFailures)
	checkMessages(t, j, note, wantNotes)
	return j
}

func TestJudgeRatio(t *testing.T) {
	plain := func(ratios ...float64) string { return wireText("plain", "relay", "", ratios...) }
	base := plain(spread(1.2, 10)...)
	judged(t, base, base, nil, nil)
	// Beyond what is allowed, and just within: both are significant.
	j := judged(t, base, plain(spread(1.32, 10)...), []string{"proxied/plain: 1.320 times relay's CPU time, was 1.200: 10.0 % more, 5.0 % allowed"}, nil)
	if f := j.Findings[0]; *f.P >= 0.001 || math.Abs(*f.Change-0.1) > 1e-9 || *f.Baseline != stats.Median(spread(1.2, 10)) {
		t.Errorf("figures: %+v, p %v, change %v", f, *f.P, *f.Change)
	}
	j = judged(t, base, plain(spread(1.2*1.049, 10)...), nil, nil)
	if p := *j.Findings[0].P; p >= 0.05 {
		t.Errorf("p %v", p)
	}
	judged(t, base, plain(spread(1.2*1.051, 10)...), []string{"5.1 % more"}, nil)
	// A large shift of the median that chance explains is reported only.
	judged(t, plain(1, 1.5, 1, 1.6, 1.55), plain(1.7, 1.01, 1.72, 1.02, 1.71), nil, []string{"proxied/plain: 13.3 % more, but chance does as much (p = "})
	// Cheaper, and cheaper by chance.
	judged(t, base, plain(spread(1.0, 10)...), nil, []string{"16.7 % cheaper: lower the baseline"})
	judged(t, base, plain(spread(1.19, 10)...), nil, nil)
	judged(t, plain(1.7, 1.01, 1.72, 1.02, 1.71), plain(1, 1.5, 1, 1.6, 1.55), nil, nil)
	// The floor itself is 1 whatever happens, and needs no rounds.
	judged(t, wireText("relay", "relay", "", 1), wireText("relay", "relay", "", 1), nil, nil)
}

func TestJudgeRatioLimits(t *testing.T) {
	base, dearer := measure(t, wireText("plain", "relay", "", spread(1, 10)...)), measure(t, wireText("plain", "relay", "", spread(1.1, 10)...))
	f := func(l limits, want int) {
		t.Helper()
		if got := judge(base, dearer, l).failures(); got != want {
			t.Errorf("%+v: %d failures, want %d", l, got, want)
		}
	}
	f(limits{ratio: 0.05, significance: 0.05}, 1)
	f(limits{ratio: 0.11, significance: 0.05}, 0)
	f(limits{ratio: 0.1, significance: 0.05}, 0) // exactly what is allowed
	f(limits{ratio: 0.05, significance: 1e-4}, 1)
}

func TestJudgeRatioComparable(t *testing.T) {
	base := wireText("plain", "relay", "", spread(1.2, 10)...)
	judged(t, base, wireText("plain", "nginx", "", spread(1.2, 10)...), []string{`a ratio to the floor "nginx", the baseline's is to "relay"`}, nil)
	without := wireText("plain", "relay", "", 0, 0, 0)
	j := judged(t, base, without, []string{`its floor "relay" was not measured in the same run`}, nil)
	if len(j.unusable) == 0 {
		t.Error("a run without its floor may become the baseline")
	}
	judged(t, without, base, nil, []string{"the baseline has no ratio"})
	judged(t, without, without, nil, nil)
	judged(t, base, base+wireText("full", "relay", "", 1.5), nil, []string{"proxied/full: new"})
	judged(t, base+wireText("full", "relay", "", 1.5), base, nil, []string{"proxied/full: in the baseline, not in the result"})
}

func TestJudgeTooFewRounds(t *testing.T) {
	f := func(was, is int, invalid bool, want string) {
		t.Helper()
		j := judge(measure(t, wireText("plain", "relay", "", spread(1.2, was)...)), measure(t, wireText("plain", "relay", "", spread(1.2, is)...)), usual)
		if want == "" {
			checkMessages(t, j, fail, nil)
		} else {
			checkMessages(t, j, fail, []string{want})
		}
		if (len(j.unusable) > 0) != invalid {
			t.Errorf("%d against %d: invalid is %v", is, was, !invalid)
		}
	}
	f(4, 4, false, "") // 2 of 70 orders
	f(3, 5, false, "") // 2 of 56
	f(5, 3, true, "")
	f(3, 3, true, "3 rounds against the baseline's 3 can never differ with p < 0.05: 4 in each are needed, or 5 against this baseline")
	f(10, 1, true, "1 rounds against the baseline's 10 can never differ with p < 0.05: 4 in each are needed, or 2 against this baseline")
	f(1, 10, false, "10 rounds against the baseline's 1 can never differ with p < 0.05: 4 in each are needed, or 40 against this baseline")
	// What is said to be needed is exactly what the test itself needs.
	for _, n := range [][2]int{{3, 3}, {4, 4}, {3, 4}, {3, 5}, {1, 39}, {1, 40}, {2, 10}, {6, 8}} {
		was, is := spread(1, n[0]), spread(2, n[1])
		if p := stats.Differ(was, is); math.Abs(p-chance(n[0], n[1])) > 1e-9 || (p < 0.05) != (tooFew(n[0], n[1], 0.05) == "") {
			t.Errorf("%v: p %v, chance %v, %q", n, p, chance(n[0], n[1]), tooFew(n[0], n[1], 0.05))
		}
	}
}

func TestJudgeCalls(t *testing.T) {
	f := func(was, is string, wantFailures, wantNotes []string) {
		t.Helper()
		judged(t, wireText("relay", "relay", was, 1), wireText("relay", "relay", is, 1), wantFailures, wantNotes)
	}
	const base = `"recvfrom":2.01,"sendto":2,"epoll_pwait":0.04`
	f(base, base, nil, nil)
	f("", "", nil, nil)
	// The spread of repeated runs.
	f(base, `"recvfrom":2.19,"sendto":2.01,"epoll_pwait":0.08,"nanosleep":0.08`, nil, nil)
	// One more, of a new kind and of a known one.
	f(base, base+`,"getppid":1`, []string{"4.05: getppid 1.00, was 0.00"}, nil)
	f(base, `"recvfrom":3.01,"sendto":3,"epoll_pwait":0.04`, []string{"recvfrom 3.01, was 2.01, sendto 3.00, was 2.00"}, nil)
	// The edge.
	f(base, base+`,"getppid":0.5`, []string{"getppid 0.50"}, nil)
	f(base, base+`,"getppid":0.49`, nil, nil)
	// Many kinds by a little each.
	f(base, base+`,"a":0.2,"b":0.2,"c":0.2`, []string{"4.65 calls per request, were 4.05, no kind of them by 0.5"}, nil)
	// Exchanged and fewer.
	f(base, `"readv":2.01,"sendto":2,"epoll_pwait":0.04`, []string{"4.05 calls per request, were 4.05: readv 2.01, was 0.00"}, nil)
	f(base, `"recvfrom":1.01,"sendto":2`, nil, []string{"3.01 calls per request, were 4.05: lower the baseline"})
	// Not traced on one side.
	f(base, "", nil, []string{"not traced in the result"})
	f("", base, nil, []string{"the baseline has no count"})
}

func TestJudgeNotesOrigins(t *testing.T) {
	base := wireText("relay", "relay", "", 1) + wireText("plain", "relay", "", spread(1.2, 5)...)
	if j := judged(t, base, base, nil, nil); len(j.Notes) != 0 {
		t.Errorf("the same place: %q", j.Notes)
	}
	other := strings.NewReplacer("abc", "def", "2 x CPU", "64 x CPU", "Linux 6", "Linux 7", "go1.26.8", "go1.27").Replace(base)
	j := judged(t, base, other, nil, nil)
	want := []string{`commit: the baseline's is "abc", the run's "def"`, `machine: the baseline's is "2 x CPU", the run's "64 x CPU": ratios compare`, "kernel: ", "Go: "}
	if len(j.Notes) != len(want) { // once, not for every row
		t.Fatalf("got %q", j.Notes)
	}
	for i := range want {
		if !strings.HasPrefix(j.Notes[i], want[i]) {
			t.Errorf("got %q, want %q", j.Notes[i], want[i])
		}
	}
}
