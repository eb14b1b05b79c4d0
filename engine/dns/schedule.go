package dns

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// How many lookups run at once, 64 together. The lanes do not borrow from each
// other: names whose servers do not answer hold their slots for long and must
// not keep good ones from being asked, and neither may keep a request waiting.
const (
	urgentMax  = 16 // somebody waits
	regularMax = 32 // watched names whose TTL is over
	failingMax = 16 // watched names that last failed

	laneCount = 3
)

// idleWait is how long the scheduler sleeps when nothing is due.
const idleWait = time.Hour

// lane is a queue of entries by when they are due. It is a heap.Interface.
type lane struct {
	queue   []*entry
	running int
	max     int
}

func (l *lane) Len() int           { return len(l.queue) }
func (l *lane) Less(i, j int) bool { return l.queue[i].due.Before(l.queue[j].due) }
func (l *lane) Swap(i, j int) {
	q := l.queue
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push adds an entry; heap calls it.
func (l *lane) Push(x any) {
	e := x.(*entry)
	e.index = len(l.queue)
	l.queue = append(l.queue, e)
}

// Pop takes the last entry; heap calls it.
func (l *lane) Pop() any {
	n := len(l.queue) - 1
	e := l.queue[n]
	l.queue[n] = nil
	l.queue = l.queue[:n]
	return e
}

// flight is a question that lookups wait for.
type flight struct {
	done    chan struct{}
	waiting int
	answer  Answer
	err     error
}

// schedule starts lookups when they are due.
func (r *Resolver) schedule() {
	timer := time.NewTimer(idleWait)
	defer timer.Stop()
	for {
		r.mu.Lock()
		wait := r.start(time.Now())
		r.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-r.ctx.Done():
			return
		}
	}
}

// start runs what is due and has a slot, and returns when to come back.
func (r *Resolver) start(now time.Time) time.Duration {
	wait := idleWait
	if r.closed {
		return wait
	}
	for i := range r.lanes {
		l := &r.lanes[i]
		for l.running < l.max && len(l.queue) > 0 {
			e := l.queue[0]
			if now.Before(e.due) {
				wait = min(wait, e.due.Sub(now))
				break
			}
			heap.Pop(l)
			e.lane = nil
			e.running = true
			l.running++
			r.wg.Go(func() { r.run(e, l) })
		}
	}
	return wait
}

// run asks for e, or only tells its watchers what is known already.
func (r *Resolver) run(e *entry, l *lane) {
	now := time.Now()
	r.mu.Lock()
	_, _, known := e.view(now, &r.policy)
	if e.flight != nil || e.wanted || e.overdue(now) && (!known || !e.untold()) {
		e.wanted = false
		last, sticky, generation := e.last, e.usable(now, &r.policy), r.generation
		r.mu.Unlock()
		out := r.resolve(r.ctx, e.name, last, sticky)
		if r.ctx.Err() != nil {
			return // an answer to the closing, not of DNS
		}
		now = time.Now()
		r.mu.Lock()
		e.settle(now, out, &r.policy)
		if generation != r.generation {
			e.expire(now, now) // the files have changed meanwhile
		}
		e.land(now)
	}
	a, err := e.outcome(now)
	watches := e.hear()
	r.mu.Unlock()

	for _, w := range watches {
		w.tell(a, err)
	}

	r.mu.Lock()
	e.running = false
	l.running--
	r.place(e, time.Now())
	r.mu.Unlock()
	r.rouse()
}

// land gives the outcome to the lookups that wait.
func (e *entry) land(now time.Time) {
	if f := e.flight; f != nil {
		f.answer, f.err = e.outcome(now)
		e.flight = nil
		close(f.done)
	}
}

// outcome is what is known, whatever the time.
func (e *entry) outcome(now time.Time) (Answer, error) {
	if e.kept == nil {
		return Answer{}, e.err
	}
	stale := !e.until.IsZero() && !now.Before(e.until)
	return Answer{Records: e.kept, Stale: stale, Expires: e.until}, nil
}

// hear returns the watchers that have not heard the newest outcome, and notes
// that they have.
func (e *entry) hear() []*Watch {
	var watches []*Watch
	for _, w := range e.watches {
		if w.told != e.version {
			w.told = e.version
			watches = append(watches, w)
		}
	}
	return watches
}

// untold reports whether a watcher has not heard the newest outcome.
func (e *entry) untold() bool {
	return e.version > 0 && slices.ContainsFunc(e.watches, func(w *Watch) bool { return w.told != e.version })
}

// place puts e where it belongs now: in a lane, or among those that may be dropped.
func (r *Resolver) place(e *entry, now time.Time) {
	if e.running {
		return // it is placed when it has run
	}
	switch {
	case e.flight != nil:
		r.queue(e, urgent, now)
	case e.untold(), e.wanted:
		r.queue(e, regular, now)
	case len(e.watches) > 0 && !e.next.IsZero():
		n := regular
		if e.failed > 0 {
			n = failing
		}
		r.queue(e, n, e.next)
	default:
		r.unqueue(e)
		if len(e.watches) == 0 {
			r.idle(e)
		}
	}
}

const (
	urgent = iota
	regular
	failing
)

// queue makes e run at due, or sooner if it is queued for sooner in that lane.
func (r *Resolver) queue(e *entry, n int, due time.Time) {
	l := &r.lanes[n]
	if e.elem != nil {
		r.recent.Remove(e.elem)
		e.elem = nil
	}
	if e.lane == l && !due.Before(e.due) && n == urgent {
		return
	}
	r.unqueue(e)
	e.lane, e.due = l, due
	heap.Push(l, e)
	if e.index == 0 {
		r.rouse()
	}
}

func (r *Resolver) unqueue(e *entry) {
	if e.lane != nil {
		heap.Remove(e.lane, e.index)
		e.lane = nil
	}
}

// rouse makes the scheduler look.
func (r *Resolver) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// entry returns the entry of a name, a new one if there is none.
func (r *Resolver) entry(name string, now time.Time) *entry {
	e := r.entries[name]
	if e == nil {
		e = &entry{name: name, next: now}
		r.entries[name] = e
	}
	return e
}

// idle keeps e for later and drops what has not been used for longest.
func (r *Resolver) idle(e *entry) {
	switch {
	case e.version == 0:
		delete(r.entries, e.name) // nobody waited long enough to learn anything
		return
	case e.elem == nil:
		e.elem = r.recent.PushFront(e)
	default:
		r.recent.MoveToFront(e.elem)
	}
	for len(r.entries) > r.settings.CacheSize && r.recent.Len() > 0 {
		r.forget(r.recent.Back().Value.(*entry))
		r.counts.evicted.Add(1)
	}
}

// forget drops an idle entry.
func (r *Resolver) forget(e *entry) {
	r.recent.Remove(e.elem)
	e.elem = nil
	delete(r.entries, e.name)
}

// touch notes that e was used, and has it asked again if it is time.
func (r *Resolver) touch(e *entry, now time.Time) {
	if len(e.watches) > 0 || e.running || e.flight != nil || e.wanted {
		return
	}
	e.wanted = e.overdue(now)
	r.place(e, now)
}

// join makes a lookup wait for e.
func (r *Resolver) join(e *entry, now time.Time) *flight {
	if e.flight == nil {
		e.flight = &flight{done: make(chan struct{})}
	}
	e.flight.waiting++
	r.place(e, now)
	return e.flight
}

// leave ends the wait of a lookup that has given up. What nobody waits for is
// not asked, so waiting callers bound the queue.
func (r *Resolver) leave(e *entry, f *flight) {
	f.waiting--
	if f.waiting > 0 || e.flight != f {
		return
	}
	e.flight = nil
	r.place(e, time.Now())
}

// sweep drops the answers of watched names that have been stale for too long.
// The failing lane may be too busy to come to them in time.
func (r *Resolver) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.Clone(r.lanes[failing].queue) {
		if e.lapse(now, &r.policy) {
			r.place(e, now)
		}
	}
}

// ask again all that changed files may change. Watched names are spread over a
// second; gone reports for which others even a stale answer would be wrong.
func (r *Resolver) refresh(gone func(name string) bool, all bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation++
	for name, e := range r.entries {
		changed := gone(name)
		switch {
		case !changed && !all:
		case changed && e.elem != nil:
			r.forget(e)
		case changed:
			e.expire(now, now)
			r.place(e, now)
		default:
			e.expire(now, now.Add(rand.N(time.Second)))
			if e.elem == nil {
				r.place(e, now)
			}
		}
	}
	r.rouse()
}
