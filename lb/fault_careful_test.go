package lb

import "testing"

// TestCareful: a request that cannot be sent again is no trial while another may come.
func TestCareful(t *testing.T) {
	const second = int64(1e9)
	s := NewState()
	s.Configure(&Settings{Passive: HealthLimits{TCPFailures: 1}, Down: Recovery{Open: second}}, 0)
	if s.Report(TCPFailure, &Request{Now: 1}, 1) != Down {
		t.Fatal("still in")
	}
	f := func(now int64, careful, usable, trial bool) {
		t.Helper()
		r := &Request{Now: now, Careful: careful}
		if got := s.Usable(r); got != usable || r.Trial != trial {
			t.Errorf("usable %v, trial %v", got, r.Trial)
		}
		if r.Trial {
			s.Report(Abandoned, r, now)
		}
	}
	f(second, false, false, false)
	f(second+1, true, false, false)
	f(second+1, false, true, true)
	f(second+carefulWait, true, false, false)
	f(second+carefulWait+1, true, true, true)
	s.Force(false, 10*second)
	f(100*second, true, false, false) // time never brings it back
	s.Force(true, 100*second)
	f(100*second, true, true, false)
}
