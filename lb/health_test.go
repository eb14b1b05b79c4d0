package lb

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// eventLetters are how tests write events: answered otherwise, ok, HTTP failure,
// TCP failure, timeout.
var eventLetters = map[rune]Event{'-': Ignored, 'o': Success, 'h': HTTPFailure, 't': TCPFailure, 'x': Timeout}

// sides reports the events one by one and returns the side after each.
func sides(h *Health, l *HealthLimits, events string) string {
	got := make([]byte, 0, len(events))
	for _, c := range events {
		h.Report(eventLetters[c], l)
		if h.Healthy() {
			got = append(got, '+')
		} else {
			got = append(got, '.')
		}
	}
	return string(got)
}

func TestHealth(t *testing.T) {
	f := func(l HealthLimits, events, want string) {
		t.Helper()
		if got := sides(&Health{}, &l, events); got != want {
			t.Errorf("%+v: %s gave %s, want %s", l, events, got, want)
		}
	}
	l := HealthLimits{Successes: 2, HTTPFailures: 3, TCPFailures: 2, Timeouts: 2}
	f(l, "hhh", "++.")
	f(l, "tt", "+.")
	f(l, "xx", "+.")
	// The kinds are not added up.
	f(l, "hhtxh", "++++.")
	// A success zeroes all of them, one outside the lists none.
	f(l, "hhtxohhtx", "+++++++++")
	f(l, "h-h-h", "++++.")
	// Two successes in a row bring it back, with its counters at zero.
	f(l, "hhhoohhh", "++..+++.")
	f(l, "hhhohoo", "++....+")
	f(l, "hhhohohoho", "++........")
	// What is fully down counts no failures: one success more or less makes no odds.
	f(l, "hhhhhhhhoo", "++.......+")

	// Without successes failures are never forgotten: 5 in total, and no way back.
	f(HealthLimits{HTTPFailures: 5}, "hohohohohooo", "++++++++....")
	// Limit 0 counts nothing.
	f(HealthLimits{}, "hhhtttxxxooo", "++++++++++++")
	f(HealthLimits{Successes: 1, TCPFailures: 1}, "hhhhxxxxt", "++++++++.")
	f(HealthLimits{Successes: 255, HTTPFailures: 1}, "hoho", "....")
}

// A limit that a reload lowered below the count is reached by the next failure;
// counters end at 255 instead of wrapping.
func TestHealthLimitChanges(t *testing.T) {
	h := &Health{}
	for range 300 {
		h.Report(HTTPFailure, &HealthLimits{HTTPFailures: 1000})
	}
	if !h.Healthy() {
		t.Fatal("down before its limit")
	}
	if got := h.Report(HTTPFailure, &HealthLimits{HTTPFailures: 2}); got != Down {
		t.Errorf("got %v, want Down", got)
	}
}

func TestHealthForce(t *testing.T) {
	h, l := &Health{}, &HealthLimits{Successes: 2, HTTPFailures: 2}
	h.Report(HTTPFailure, l)
	h.Force(true)
	if got := sides(h, l, "hh"); got != "+." {
		t.Errorf("forced up: got %s: the counters were not zeroed", got)
	}
	h.Report(Success, l)
	h.Force(false)
	if got := sides(h, l, "oo"); got != ".+" {
		t.Errorf("forced down: got %s: the counters were not zeroed", got)
	}
}

// kong does what incr_counter of lib/resty/healthcheck.lua does in
// Kong/lua-resty-healthcheck at commit 00a1b12b: it has four states and keeps its
// counters over a change.
type kong struct {
	state    string
	counters [Timeout + 1]int
}

func (k *kong) report(e Event, l *HealthLimits) {
	towards := "unhealthy"
	if e == Success {
		towards = "healthy"
	}
	if l.limit(e) == 0 || k.state == towards {
		return
	}
	k.counters[e]++
	for i := range k.counters {
		if (Event(i) == Success) != (e == Success) {
			k.counters[i] = 0
		}
	}
	failures := k.counters[HTTPFailure] + k.counters[TCPFailure] + k.counters[Timeout]
	switch {
	case k.counters[e] >= l.limit(e):
		k.state = towards
	case k.state == "healthy" && failures > 0:
		k.state = "mostly_healthy"
	case k.state == "unhealthy" && k.counters[Success] > 0:
		k.state = "mostly_unhealthy"
	}
}

// Any mixture of active and passive reports ends on the same side as in Kong.
func TestHealthIsKongs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		var limits [2]HealthLimits
		for i := range limits {
			limits[i] = HealthLimits{rnd.IntN(4), rnd.IntN(4), rnd.IntN(4), rnd.IntN(4)}
		}
		h, k := &Health{}, &kong{state: "healthy"}
		log := ""
		for range 200 {
			e, l := Success+Event(rnd.IntN(4)), &limits[rnd.IntN(2)]
			log += string("ohtx"[e-Success])
			before := h.Healthy()
			change := h.Report(e, l)
			k.report(e, l)
			want := k.state == "healthy" || k.state == "mostly_healthy"
			if h.Healthy() != want || (change != Unchanged) != (before != want) {
				t.Fatalf("%+v: %s: healthy %v, change %v; Kong: %s", limits, log, h.Healthy(), change, k.state)
			}
		}
	}
}

// Changes that goroutines are told of alternate: as many down as up, one more at
// most.
func TestHealthConcurrent(t *testing.T) {
	h, l := &Health{}, &HealthLimits{Successes: 3, HTTPFailures: 3}
	var down, up atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5000 {
				e := Success
				if i%2 == 0 {
					e = HTTPFailure
				}
				switch h.Report(e, l) {
				case Down:
					down.Add(1)
				case Up:
					up.Add(1)
				}
			}
		})
	}
	wg.Wait()
	want := int64(0)
	if !h.Healthy() {
		want = 1
	}
	if got := down.Load() - up.Load(); got != want {
		t.Errorf("%d down and %d up, healthy %v", down.Load(), up.Load(), h.Healthy())
	}
}
