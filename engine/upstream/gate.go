package upstream

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// gate bounds how many requests are under way at a time. One above the limit waits
// in line; one that finds the line full, or waits too long, is turned away. A gate
// outlives reloads, its settings come with each request. Safe for concurrent use;
// the zero value is a gate that nobody has entered.
type gate struct {
	inFlight atomic.Int64
	line     line
}

// gateSettings say how many may enter. The zero value lets everyone in.
type gateSettings struct {
	limit   int64 // 0 for no limit
	queue   int
	timeout time.Duration
}

// entry is how asking at a gate ended.
type entry uint8

const (
	entered  entry = iota
	lineFull       // nobody may wait any more
	waitOver       // waited in vain
)

// enter asks for a place, waiting as s allows and no longer than patience.
// Each entered with a limit needs a leave.
// waits counts those that do not get one at once.
func (g *gate) enter(s *gateSettings, patience time.Duration, waits *metrics.Counter) entry {
	if s.limit <= 0 {
		return entered // and is not counted
	}
	if g.line.waiting.Load() == 0 && g.try(s.limit) {
		return entered // Fast path: there is room and nobody waits for it.
	}
	if s.queue > 0 {
		waits.Inc()
	}
	return g.line.ask(func() bool { return g.try(s.limit) }, s.queue, min(patience, s.timeout))
}

func (g *gate) try(limit int64) bool {
	for {
		n := g.inFlight.Load()
		if n >= limit {
			return false
		}
		if g.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave ends what enter began.
func (g *gate) leave() {
	g.inFlight.Add(-1)
	g.line.wake()
}

// line is where requests wait for room, first come first served: only the first
// looks for it, whenever it is woken. Safe for concurrent use.
type line struct {
	waiting atomic.Int64

	mu    sync.Mutex
	queue list.List // of *waiter
}

// waiter is a request in a line.
type waiter struct {
	wake  chan struct{} // holds a token when there may be room
	timer *time.Timer
}

var waiters = sync.Pool{New: func() any {
	w := &waiter{wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}}

// ask waits in line until try succeeds, at most for patience, among at most
// lengthMax others.
func (l *line) ask(try func() bool, lengthMax int, patience time.Duration) entry {
	w := waiters.Get().(*waiter)
	defer waiters.Put(w)
	l.mu.Lock()
	if l.queue.Len() >= lengthMax {
		l.mu.Unlock()
		return lineFull
	}
	at := l.queue.PushBack(w)
	l.waiting.Add(1)
	l.mu.Unlock()
	w.timer.Reset(patience)
	defer w.timer.Stop() // and nothing is left in its channel, since Go 1.23
	for {
		// Whoever makes room after this looks at waiting, so no wake is lost.
		if l.isFirst(at) && try() {
			l.step(at)
			return entered
		}
		select {
		case <-w.wake:
		case <-w.timer.C:
			l.step(at)
			return waitOver
		}
	}
}

func (l *line) isFirst(at *list.Element) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.Front() == at
}

// step takes a waiter out of the line; the next may find room too.
func (l *line) step(at *list.Element) {
	l.mu.Lock()
	l.queue.Remove(at)
	l.waiting.Add(-1)
	select {
	case <-at.Value.(*waiter).wake:
	default:
	}
	l.mu.Unlock()
	l.wake()
}

// wake tells the first in line that there may be room.
func (l *line) wake() {
	if l.waiting.Load() == 0 {
		return // Fast path: nobody waits.
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.queue.Front(); first != nil {
		select {
		case first.Value.(*waiter).wake <- struct{}{}:
		default: // it has been told
		}
	}
}
