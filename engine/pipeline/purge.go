package pipeline

import (
	"io"
	"sync"
)

// Purge says which kept answers are to be taken back: those that meet every condition
// set. The zero value means all.
type Purge struct {
	// Keys are surrogate keys; an answer with any of them meets the condition.
	Keys []string
	// Path is that of requests as clients send them: an answer at the path or below
	// meets the condition; with Exact only one at the path itself, whatever its query.
	Path  string
	Exact bool
	// Route, Service and Plugin are ids.
	Route, Service, Plugin string
	// Entry is the key of one answer as X-Cache-Key tells it.
	Entry string
	// Soft makes answers stale instead: each is asked for again when it is wanted next,
	// and serves where the service fails.
	Soft bool
}

// Purger is a kept value that keeps answers. Its methods may be called concurrently.
type Purger interface {
	// Purge takes answers back: when it returns, none of them is given to a client as
	// fresh any more. It returns how many there were in this process.
	Purge(p *Purge) int
	// PurgeSoon takes back what meets any of several purges, without counting: cheap enough
	// for a request.
	PurgeSoon(any []*Purge)
}

// purgers returns the kept values that keep answers. It takes no lock: a request must not
// wait for a reload.
func (k *Keeper) purgers() []Purger {
	if all := k.caches.Load(); all != nil {
		return *all
	}
	return nil
}

// notePurgers looks for the Purgers among the kept values anew. k.mu is held.
func (k *Keeper) notePurgers() {
	var found []Purger
	for _, v := range k.kept {
		if p, ok := v.value.(Purger); ok {
			found = append(found, p)
		}
	}
	k.caches.Store(&found)
}

// Purge takes answers back from every Purger, side by side, and returns how many.
func (k *Keeper) Purge(p *Purge) (purged int) {
	var work sync.WaitGroup
	purgers := k.purgers()
	counts := make([]int, len(purgers))
	for i, one := range purgers {
		work.Go(func() { counts[i] = one.Purge(p) })
	}
	work.Wait()
	for _, n := range counts {
		purged += n
	}
	return purged
}

// Purger returns what takes answers back from every cache of the gateway, those that meet
// any of several purges, without counting them. It may be kept.
func (e *Env) Purger() func(any []*Purge) {
	k := e.holder.keeper
	return func(any []*Purge) {
		for _, one := range k.purgers() {
			one.PurgeSoon(any)
		}
	}
}

// Expose writes the metrics of the values that snapshots hold; for tests.
func (e *Env) Expose(w io.Writer) { e.holder.keeper.Expose(w) }

// KeptAnswer is one answer of a Purger, as an operator sees it. It belongs to the caller.
type KeptAnswer struct {
	Key    string // as X-Cache-Key tells it
	Status int
	Fields [][2]string // names and values of the header
	Body   []byte
	Stored int64 // milliseconds since 1970
	TTL    int64 // seconds for which it is fresh, from when it was stored
}

// Answerer is a Purger that shows its answers. It may be called concurrently.
type Answerer interface {
	// Answer returns the answer with a key, in any case of its digits; of one plugin
	// instance only where plugin is its id. ok is false where there is none.
	Answer(key, plugin string) (a KeptAnswer, ok bool)
}

// Answer returns a kept answer from whatever has it.
func (k *Keeper) Answer(key, plugin string) (a KeptAnswer, ok bool) {
	for _, p := range k.purgers() {
		if f, is := p.(Answerer); is {
			if a, ok = f.Answer(key, plugin); ok {
				return a, true
			}
		}
	}
	return a, false
}
