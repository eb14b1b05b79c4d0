package upstream

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// patience that no test uses up.
const patience = time.Minute

// until waits until a condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// crowd is requests that go through a gate at once.
type crowd struct {
	gate     gate
	settings gateSettings
	waits    metrics.Counter
	inside   atomic.Int64
	most     atomic.Int64
	how      [3]atomic.Int64 // by entry
	wg       sync.WaitGroup
}

// pass goes through the gate, doing f inside.
func (c *crowd) pass(patience time.Duration, f func()) {
	how := c.gate.enter(&c.settings, patience, &c.waits)
	c.how[how].Add(1)
	if how != entered {
		return
	}
	n := c.inside.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	f()
	c.inside.Add(-1)
	c.gate.leave()
}

// empty checks that nobody is left in the gate or its line.
func (c *crowd) empty(t *testing.T) {
	t.Helper()
	c.gate.line.mu.Lock()
	defer c.gate.line.mu.Unlock()
	if n, w, l := c.gate.inFlight.Load(), c.gate.line.waiting.Load(), c.gate.line.queue.Len(); n != 0 || w != 0 || l != 0 {
		t.Errorf("%d inside, %d waiting, %d in line", n, w, l)
	}
}

// The limit holds exactly, and no wake is lost: everyone gets in although nobody waits
// for long.
func TestGateHoldsItsLimit(t *testing.T) {
	for _, limit := range []int64{1, 2, 7} {
		c := &crowd{settings: gateSettings{limit: limit, queue: 1000, timeout: patience}}
		const clients, passes = 64, 500
		for i := range clients {
			c.wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 1))
				for range passes {
					c.pass(patience, func() {
						for range r.IntN(20) {
							runtime.Gosched()
						}
					})
				}
			})
		}
		c.wg.Wait()
		if got := c.how[entered].Load(); got != clients*passes || c.most.Load() != limit {
			t.Errorf("limit %d: %d entered, at most %d at a time", limit, got, c.most.Load())
		}
		c.empty(t)
	}
}

// Those who give up while they are being woken pass the word on.
func TestGateLosesNoWake(t *testing.T) {
	c := &crowd{settings: gateSettings{limit: 2, queue: 40, timeout: patience}}
	stop := make(chan struct{})
	for i := range 16 { // they give up soon
		c.wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for {
				select {
				case <-stop:
					return
				default:
					c.pass(time.Duration(r.IntN(200))*time.Microsecond, func() {
						for range r.IntN(40) {
							runtime.Gosched()
						}
					})
				}
			}
		})
	}
	var steady sync.WaitGroup
	var served atomic.Int64
	for range 8 { // they do not
		steady.Go(func() {
			for range 300 {
				c.pass(patience, func() { served.Add(1) })
			}
		})
	}
	done := make(chan struct{})
	go func() { steady.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Errorf("stuck after %d", served.Load())
	}
	close(stop)
	c.wg.Wait()
	if c.how[waitOver].Load() == 0 || c.most.Load() > 2 {
		t.Errorf("%d gave up, at most %d at a time", c.how[waitOver].Load(), c.most.Load())
	}
	c.empty(t)
}

func TestGateIsFirstComeFirstServed(t *testing.T) {
	c := &crowd{settings: gateSettings{limit: 1, queue: 100, timeout: patience}}
	if c.gate.enter(&c.settings, patience, &c.waits) != entered {
		t.Fatal("the first is refused")
	}
	var mu sync.Mutex
	var order []int
	for i := range 50 {
		c.wg.Go(func() {
			c.pass(patience, func() {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
		})
		until(t, "one to queue up", func() bool { return c.gate.line.waiting.Load() == int64(i+1) })
	}
	c.gate.leave()
	c.wg.Wait()
	for i, got := range order {
		if i != got {
			t.Fatalf("served in order %v", order)
		}
	}
	if c.waits.Get() != 50 {
		t.Errorf("%d waits counted", c.waits.Get())
	}
	c.empty(t)
}

func TestGateTurnsAway(t *testing.T) {
	f := func(s gateSettings, patience time.Duration, want entry, within time.Duration) {
		t.Helper()
		c := &crowd{settings: s}
		if s.limit > 0 && c.gate.enter(&s, patience, &c.waits) != entered {
			t.Error("the first is refused")
		}
		began := time.Now()
		how := c.gate.enter(&s, patience, &c.waits)
		if d := time.Since(began); how != want || d > within {
			t.Errorf("%d after %v, want %d within %v", how, d, want, within)
		}
	}
	const soon, short = 5 * time.Second, 20 * time.Millisecond
	f(gateSettings{}, patience, entered, soon)
	f(gateSettings{limit: 2}, patience, entered, soon)
	f(gateSettings{limit: 1, timeout: patience}, patience, lineFull, soon)
	f(gateSettings{limit: 1, queue: 1, timeout: short}, patience, waitOver, soon)
	f(gateSettings{limit: 1, queue: 1, timeout: patience}, short, waitOver, soon)
	f(gateSettings{limit: 1, queue: 1, timeout: patience}, -1, waitOver, soon)

	// The line itself is bounded, and who leaves it makes room in it.
	c := &crowd{settings: gateSettings{limit: 1, queue: 2, timeout: patience}}
	c.gate.enter(&c.settings, patience, &c.waits)
	for range 2 {
		c.wg.Go(func() { c.pass(patience, func() {}) })
	}
	until(t, "a full line", func() bool { return c.gate.line.waiting.Load() == 2 })
	if how := c.gate.enter(&c.settings, patience, &c.waits); how != lineFull {
		t.Errorf("%d with a full line", how)
	}
	c.gate.leave()
	c.wg.Wait()
	c.empty(t)
}

// One that is told of room while it gives up tells the next.
func TestGatePassesTheWordOn(t *testing.T) {
	c := &crowd{settings: gateSettings{limit: 1, queue: 10, timeout: patience}}
	g := &c.gate
	g.enter(&c.settings, patience, &c.waits)
	c.wg.Go(func() { c.pass(10*time.Millisecond, func() {}) })
	until(t, "one in line", func() bool { return g.line.waiting.Load() == 1 })
	g.line.mu.Lock()
	first := g.line.queue.Front().Value.(*waiter)
	next := &waiter{wake: make(chan struct{}, 1)}
	g.line.queue.PushBack(next)
	g.line.waiting.Add(1)
	<-time.After(50 * time.Millisecond) // its time is over; it cannot leave the line yet
	g.inFlight.Add(-1)
	first.wake <- struct{}{}
	g.line.mu.Unlock()
	select {
	case <-next.wake:
	case <-time.After(10 * time.Second):
		t.Error("the next was not told")
	}
	c.wg.Wait()
}

// Room that the first in line has not heard of yet is not taken by a later one.
func TestGateHasNoQueueJumpers(t *testing.T) {
	c := &crowd{settings: gateSettings{limit: 1, queue: 10, timeout: patience}}
	first := &waiter{wake: make(chan struct{}, 1)}
	c.gate.line.queue.PushBack(first)
	c.gate.line.waiting.Add(1)
	if how := c.gate.enter(&c.settings, 20*time.Millisecond, &c.waits); how != waitOver {
		t.Errorf("a later one: %d", how)
	}
	select {
	case <-first.wake:
	default:
		t.Error("the first is not told when another leaves the line")
	}
}
