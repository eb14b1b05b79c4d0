package pipeline

import (
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Keeper owns what outlives a snapshot: counters, log writers, pools. A value
// lives as long as any snapshot holds its key, so a reload that leaves its
// settings alone finds it as it was. Safe for concurrent use.
type Keeper struct {
	mu     sync.Mutex
	kept   map[string]*keptValue
	caches atomic.Pointer[[]Purger] // those of kept
}

type keptValue struct {
	value   any
	holders int
}

// NewKeeper returns an empty Keeper.
func NewKeeper() *Keeper { return &Keeper{kept: map[string]*keptValue{}} }

// Holder is one snapshot's claim on kept values.
type Holder struct {
	keeper *Keeper
	keys   map[string]bool
}

// Hold returns a Holder for a snapshot about to be built.
func (k *Keeper) Hold() *Holder { return &Holder{keeper: k, keys: map[string]bool{}} }

// Release gives up the claim. Values that nobody else holds are closed, if they
// are io.Closers; their errors are joined. Later calls do nothing.
func (h *Holder) Release() error {
	k := h.keeper
	k.mu.Lock()
	var gone []any
	for key := range h.keys {
		v := k.kept[key]
		if v.holders--; v.holders == 0 {
			delete(k.kept, key)
			gone = append(gone, v.value)
		}
	}
	clear(h.keys)
	k.notePurgers()
	k.mu.Unlock()
	var errs []error
	for _, v := range gone {
		if c, ok := v.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Exposer is a kept value with metrics of its own. Expose writes Prometheus text
// and may be called concurrently.
type Exposer interface {
	Expose(w io.Writer)
}

// Reporter is a kept value that an operator may look at. Report tells what kind of thing
// it is, which one, and how it is doing, as what marshals to JSON. It may be called
// concurrently.
type Reporter interface {
	Report() (kind, name string, report any)
}

// Expose writes the metrics of every kept Exposer, in the order of their keys.
func (k *Keeper) Expose(w io.Writer) {
	found := map[string]Exposer{}
	k.Each(func(key string, value any) {
		if e, ok := value.(Exposer); ok {
			found[key] = e
		}
	})
	for _, key := range slices.Sorted(maps.Keys(found)) {
		found[key].Expose(w)
	}
}

// Each calls f for every kept value, for instance to find those an operator
// may act on.
func (k *Keeper) Each(f func(key string, value any)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, v := range k.kept {
		f(key, v.value)
	}
}

// Keep returns the value kept under key, opening it if no snapshot holds it
// yet. The key must name the plugin and spell out every setting the value
// depends on: a changed setting is another value. open runs at most once a key;
// its value is closed, if it is an io.Closer, when the last snapshot holding it
// is retired.
func Keep[T any](env *Env, key string, open func() (T, error)) (T, error) {
	h := env.holder
	k := h.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, ok := k.kept[key]; ok {
		if !h.keys[key] {
			h.keys[key] = true
			v.holders++
		}
		return v.value.(T), nil
	}
	value, err := open()
	if err != nil {
		return value, err
	}
	k.kept[key] = &keptValue{value: value, holders: 1}
	h.keys[key] = true
	k.notePurgers()
	return value, nil
}
