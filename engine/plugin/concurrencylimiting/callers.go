package concurrencylimiting

import (
	"fmt"
	"hash/maphash"
	"io"
	"strings"
	"sync"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// callers are who has what in flight: what outlives a reload. Safe for concurrent use.
type callers struct {
	name      string // of the instance, else its id
	inFlight  *limiter.Concurrency
	names     maphash.Seed
	addresses maphash.Seed
	requests  pipeline.ShardedCounter
	refusals  pipeline.ShardedCounter
}

func keepCallers(c *Config, env *pipeline.Env) (*callers, error) {
	name := env.Plugin.InstanceName
	if name == "" {
		name = env.Plugin.ID
	}
	key := fmt.Sprintf("concurrency-limiting/%s/%s/%s/%s/%d/%s", env.Plugin.ID, c.LimitBy, c.HeaderName, c.Path, c.KeysMax, name)
	return pipeline.Keep(env, key, func() (*callers, error) {
		return &callers{name: name, inFlight: limiter.NewConcurrency(c.KeysMax), names: maphash.MakeSeed(), addresses: maphash.MakeSeed()}, nil
	})
}

// key is what the request is counted under. Addresses have a hash of their own,
// so that no name a client may choose equals one.
func (c *callers) key(x *pipeline.Exchange, identify func(*pipeline.Exchange) string) uint64 {
	if identify != nil {
		if id := identify(x); id != "" {
			return maphash.String(c.names, id)
		}
	}
	address := x.ClientIP.As16()
	return maphash.Bytes(c.addresses, address[:])
}

func (c *callers) enter(key uint64, limit int64, shard uint32) bool {
	if !c.inFlight.Enter(key, limit) {
		c.refusals.Add(shard, 1)
		return false
	}
	c.requests.Add(shard, 1)
	return true
}

func (c *callers) leave(key uint64, shard uint32) {
	c.inFlight.Leave(key)
	c.requests.Add(shard, -1)
}

// ticket is what one request has entered and must leave. It is a user value of the
// request under its instance, and closed with the request where Log hooks never run,
// as when a client goes away that was told to send its body.
type ticket struct {
	callers *callers // nil: nothing entered
	key     uint64
	shard   uint32
	shield  *shield // nil: nothing acquired
}

var tickets = sync.Pool{New: func() any { return new(ticket) }}

// Close leaves what is still entered and gives t back. The error is nil.
func (t *ticket) Close() error {
	if t.callers != nil {
		t.callers.leave(t.key, t.shard)
	}
	if t.shield != nil {
		t.shield.abandon()
	}
	*t = ticket{}
	tickets.Put(t)
	return nil
}

// Expose implements pipeline.Exposer.
func (c *callers) Expose(w io.Writer) {
	label := escape(c.name)
	_, _ = fmt.Fprintf(w, "sluice_concurrency_requests{plugin=\"%s\"} %d\n"+ // a scraper that is gone needs nothing
		"sluice_concurrency_callers{plugin=\"%s\"} %d\n"+
		"sluice_concurrency_refusals_total{plugin=\"%s\"} %d\n"+
		"sluice_concurrency_full_total{plugin=\"%s\"} %d\n",
		label, c.requests.Load(), label, c.inFlight.Len(), label, c.refusals.Load(), label, c.inFlight.Refused())
}

// callerFacts are what the status listener shows.
type callerFacts struct {
	Requests int64  `json:"requests"`
	Callers  int    `json:"callers"`
	Refusals int64  `json:"refusals"`
	Full     uint64 `json:"full"`
}

// Report implements pipeline.Reporter.
func (c *callers) Report() (kind, name string, report any) {
	return "concurrency", c.name, callerFacts{c.requests.Load(), c.inFlight.Len(), c.refusals.Load(), c.inFlight.Refused()}
}

// escape writes s as the value of a label.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "�"))
}
