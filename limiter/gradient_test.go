package limiter

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// service is a simulated service: servers that each serve one request at a time,
// and a queue in front of them (M/M/c, with what Acquire refuses lost).
type service struct {
	r        *rand.Rand
	free     []int64 // when each server will be free
	mean     time.Duration
	answers  completions
	now      int64
	admitted int
	arrived  int
}

type completion struct {
	at      int64
	latency time.Duration
	dropped bool
}

type completions []completion

func (c completions) Len() int           { return len(c) }
func (c completions) Less(i, j int) bool { return c[i].at < c[j].at }
func (c completions) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *completions) Push(x any)        { *c = append(*c, x.(completion)) }
func (c *completions) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

func newService(servers int, mean time.Duration) *service {
	return &service{r: rand.New(rand.NewPCG(1, 2)), free: make([]int64, servers), mean: mean, now: 1}
}

// run lets requests arrive at a rate for a time and calls see with the limit
// every 100 ms.
func (s *service) run(g *Gradient, perSecond float64, d, timeout time.Duration, see func(limit int)) {
	end, next, look := s.now+int64(d), s.now, s.now
	for s.now < end {
		for len(s.answers) > 0 && s.answers[0].at <= next {
			c := heap.Pop(&s.answers).(completion)
			s.now = c.at
			g.Release(s.now, c.latency, c.dropped)
		}
		s.now = next
		next += int64(s.r.ExpFloat64() / perSecond * 1e9)
		for ; look <= s.now; look += int64(100 * time.Millisecond) {
			see(g.Limit())
		}
		s.arrived++
		if !g.Acquire() {
			continue
		}
		s.admitted++
		first := 0
		for i, at := range s.free {
			if at < s.free[first] {
				first = i
			}
		}
		done := max(s.free[first], s.now) + int64(s.r.ExpFloat64()*float64(s.mean))
		s.free[first] = done
		c := completion{done, time.Duration(done - s.now), false}
		if timeout > 0 && c.latency > timeout {
			c = completion{s.now + int64(timeout), timeout, true}
		}
		heap.Push(&s.answers, c)
	}
}

// mean returns a see function and what it saw on average.
func mean() (see func(int), average func() float64) {
	sum, n := 0, 0
	return func(limit int) { sum, n = sum+limit, n+1 }, func() float64 { return float64(sum) / float64(n) }
}

func TestGradientFindsTheKnee(t *testing.T) {
	const servers = 20 // the knee: fewer in flight leave servers idle, more only queue
	s, g := newService(servers, 10*time.Millisecond), NewGradient(GradientConfig{LimitMin: 5, LimitMax: 2000})
	capacity := servers / 0.010
	s.run(g, 2*capacity, time.Minute, 0, func(int) {})
	for minute := range 8 { // without probes the limit creeps up for ever
		see, average := mean()
		admitted := s.admitted
		s.run(g, 2*capacity, time.Minute, 0, see)
		served := float64(s.admitted-admitted) / 60
		if a := average(); a < servers || a > 3*servers || served < 0.9*capacity {
			t.Errorf("minute %d: limit %.0f on average, served %.0f of %.0f a second", minute, a, served, capacity)
		}
		if minute%3 == 0 {
			t.Logf("minute %d: limit %.0f on average with %d servers, served %.0f%% of capacity", minute, average(), servers, 100*served/capacity)
		}
	}
}

func TestGradientFollowsTheService(t *testing.T) {
	const servers, lowest = 20, 5
	s, g := newService(servers, 10*time.Millisecond), NewGradient(GradientConfig{LimitMin: lowest, LimitMax: 2000})
	see := func(limit int) {
		if limit < lowest || limit > 2000 {
			t.Fatalf("limit %d", limit)
		}
	}
	s.run(g, 3000, 2*time.Minute, 0, see)
	healthy := g.Limit()

	s.free = s.free[:4] // 16 of 20 servers fail: the knee is at 4
	s.run(g, 3000, 2*time.Minute, 0, see)
	sick, average := mean()
	s.run(g, 3000, time.Minute, 0, sick)
	if a := average(); a > 20 {
		t.Errorf("4 servers: limit %.0f on average", a)
	}
	t.Logf("20 servers: limit %d; 4 servers: %.0f", healthy, average())

	for range 16 {
		s.free = append(s.free, s.now)
	}
	s.run(g, 3000, time.Minute, 0, see)
	well, average := mean()
	admitted := s.admitted
	s.run(g, 3000, time.Minute, 0, well)
	if a, served := average(), (s.admitted-admitted)/60; a < servers || a > 3*servers || served < 1800 {
		t.Errorf("a minute after recovery: limit %.0f, served %d of 2000 a second", a, served)
	}
}

func TestGradientIsUnlimitedWhenLatencyIsFlat(t *testing.T) {
	g := NewGradient(GradientConfig{LimitMax: 500})
	now := int64(1)
	for range 20_000 {
		n := 0
		for g.Acquire() {
			n++
		}
		for range n {
			now += int64(time.Millisecond) / int64(n)
			g.Release(now, 10*time.Millisecond, false)
		}
	}
	if l := g.Limit(); l != 500 && l != 250 { // 250 in a probe
		t.Errorf("limit %d, want the largest", l)
	}
}

func TestGradientStaysWhenUnused(t *testing.T) {
	g := NewGradient(GradientConfig{})
	for i := range int64(100_000) {
		if !g.Acquire() {
			t.Fatal("refused the only one")
		}
		latency := time.Millisecond
		if i > 50_000 {
			latency *= 100
		}
		g.Release(i*int64(time.Millisecond), latency, false)
	}
	if g.Limit() != 20 || g.InFlight() != 0 {
		t.Errorf("limit %d, in flight %d", g.Limit(), g.InFlight())
	}
}

func TestGradientShrinksOnDrops(t *testing.T) {
	g := NewGradient(GradientConfig{LimitMin: 3, LimitStart: 100})
	now := int64(1)
	for range 100 {
		g.Acquire()
		now += int64(time.Second)
		g.Release(now, time.Second, true)
	}
	if g.Limit() != 3 {
		t.Errorf("limit %d, want the least", g.Limit())
	}
	// A service that times out under load settles below what times it out.
	s, g := newService(20, 10*time.Millisecond), NewGradient(GradientConfig{LimitMax: 2000, LimitStart: 1000})
	s.run(g, 4000, time.Minute, 100*time.Millisecond, func(int) {})
	see, average := mean()
	s.run(g, 4000, time.Minute, 100*time.Millisecond, see)
	if a := average(); a < 20 || a > 100 {
		t.Errorf("limit %.0f on average", a)
	}
}

func TestGradientCountsExactly(t *testing.T) {
	g := NewGradient(GradientConfig{LimitMax: 20, LimitMin: 20, ProbeEvery: 1 << 30})
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for i := range int64(5000) {
				if g.Acquire() {
					if n := g.InFlight(); n > 20 {
						t.Errorf("%d in flight", n)
					}
					g.Release(i*int64(time.Millisecond), time.Duration(i%7)*time.Millisecond, i%100 == 0)
				}
			}
		})
	}
	wg.Wait()
	if g.InFlight() != 0 {
		t.Errorf("%d in flight", g.InFlight())
	}
	defer func() {
		if recover() == nil {
			t.Error("one more Release did not panic")
		}
	}()
	g.Release(0, 0, false)
}
