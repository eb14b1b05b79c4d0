package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// roster is what is known of the addresses of one upstream, whatever its
// settings: it is kept by the upstream's name, so that health, load and
// connections survive a reload. Safe for concurrent use.
type roster struct {
	name    string
	open    atomic.Int64 // connections to all addresses
	openMax atomic.Int64
	gate    gate // requests under way to all of them

	// line is where requests wait while every target is at its limit.
	line line
	// leader is the group of the live document: its probes run, its limits count.
	leader atomic.Pointer[group]

	mu        sync.Mutex
	addresses map[string]*address
	closed    bool
}

func newRoster(name string) *roster { return &roster{name: name, addresses: map[string]*address{}} }

// goneKept is how long an address is remembered that no target has any more
// (Kong: 300 s).
const goneKept = 300 * time.Second

// take returns the address for a generation that is being made, as it was known or
// new. Each take needs a give.
func (r *roster) take(dial, target, name string) *address {
	key := dial + " " + target + " " + name
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.addresses[key]
	if a == nil {
		a = newAddress(r, dial, target, name)
		r.addresses[key] = a
	}
	a.users++
	return a
}

// give ends what take began, for a generation that is out of use.
func (r *roster) give(list []*address) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := pipeline.Now()
	for _, a := range list {
		if a.users--; a.users == 0 {
			a.gone = now
		}
	}
}

// Prune forgets addresses that are gone for long. The engine calls it now and
// then, with Now().
func (r *roster) Prune(now int64) {
	var old []*address
	r.mu.Lock()
	for key, a := range r.addresses {
		if a.users == 0 && now-a.gone >= int64(goneKept) {
			delete(r.addresses, key)
			old = append(old, a)
		}
	}
	r.mu.Unlock()
	for _, a := range old {
		a.close()
	}
}

// evict closes an idle connection of any address and reports whether there was one.
func (r *roster) evict() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.addresses {
		if a.evict() {
			return true
		}
	}
	return false
}

// Close closes all idle connections. No snapshot has the upstream any more.
func (r *roster) Close() error {
	r.mu.Lock()
	addresses := r.addresses
	r.addresses, r.closed = map[string]*address{}, true
	r.mu.Unlock()
	for _, a := range addresses {
		a.close()
	}
	return nil
}
