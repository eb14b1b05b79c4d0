package dns

import (
	"bytes"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Watch tells a function what a name resolves to, until it is closed.
type Watch struct {
	r    *Resolver
	e    *entry // nil if the name is none
	told uint64 // the version of e that f has heard; the Resolver's mutex guards it
	f    func(Answer, error)

	calls  chan struct{} // full while f runs; not a mutex, which testing/synctest cannot see through
	closed atomic.Bool
	caller atomic.Uint64 // the goroutine that runs f
}

// Watch calls f with the first outcome for name and with every later change:
// other records, no records, records again. Calls come from a goroutine of the
// resolver, one at a time. f must return soon, since it holds one of the few slots
// for lookups, and must not wait for the resolver. After Close of the resolver f
// is not called.
func (r *Resolver) Watch(name string, f func(Answer, error)) *Watch {
	w := &Watch{r: r, f: f, calls: make(chan struct{}, 1)}
	a, isLiteral := literal(name)
	key, err := a.String(), error(nil)
	if !isLiteral {
		key, err = canonical(name)
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return w
	}
	if err != nil {
		r.wg.Go(func() { w.tell(Answer{}, err) })
		return w
	}
	w.e = r.entry(key, now)
	w.e.watches = append(w.e.watches, w)
	r.watches++
	r.place(w.e, now)
	return w
}

// Close ends the watch. After it returned f does not run and is not called again;
// f itself may call Close. A caller must not hold a lock that f waits for.
func (w *Watch) Close() {
	w.closed.Store(true)
	w.r.detach(w)
	if w.caller.Load() == goroutine() {
		return
	}
	w.calls <- struct{}{} // wait for f
	<-w.calls
}

// detach makes the entry of w forget it. Nobody may be left to refresh it for.
func (r *Resolver) detach(w *Watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.e == nil {
		return
	}
	i := slices.Index(w.e.watches, w)
	if i < 0 {
		return
	}
	w.e.watches = slices.Delete(w.e.watches, i, i+1)
	r.watches--
	r.place(w.e, time.Now())
}

func (w *Watch) tell(a Answer, err error) {
	w.calls <- struct{}{}
	defer func() { <-w.calls }()
	if w.closed.Load() {
		return
	}
	w.caller.Store(goroutine())
	defer w.caller.Store(0)
	w.f(a, err)
}

// goroutine returns the number of the goroutine it runs in. There is no other
// way to tell that Close is called by f, where waiting for f would be for ever.
// It costs a microsecond, once a change.
func goroutine() uint64 {
	var b [64]byte
	s := bytes.TrimPrefix(b[:runtime.Stack(b[:], false)], []byte("goroutine "))
	digits, _, _ := bytes.Cut(s, []byte(" "))
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		panic("BUG: dns: a stack trace begins with " + strconv.Quote(string(s)))
	}
	return n
}
