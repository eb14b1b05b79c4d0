package pipeline

import "slices"

// Chain is a route's hooks in order, compiled. Immutable and safe for
// concurrent use; what a request chose on the way is kept in its Exchange.
type Chain struct {
	request  []requestStep
	receive  []exchangeStep // already reversed
	response []exchangeStep // already reversed
	log      []exchangeStep
	variants int // how many links differ by consumer

	// BuffersBody and BuffersRequest are true if any hook of the chain needs
	// the whole response or request body.
	BuffersBody    bool
	BuffersRequest bool
	// ReadsHeaders is true if any hook may look at the response's headers.
	ReadsHeaders bool
}

type requestStep struct {
	run     func(*Exchange) Verdict
	variant *link // nil: the same for every caller
}

type exchangeStep struct {
	run     func(*Exchange)
	variant *link
}

// Link is one plugin of a chain: the settings that apply to everyone and those
// that apply to some consumers or groups.
type Link struct {
	// Everyone is nil when only some consumers have the plugin.
	Everyone *Hooks
	// Rank of Everyone in Kong's table of scopes; lower wins.
	Rank   int
	Scoped []Scoped
}

// Scoped are the hooks for one consumer or one group.
type Scoped struct {
	Consumer string // consumer id, or ""
	Group    string // consumer group id, or ""
	Rank     int    // place in Kong's table of scopes; lower wins
	Hooks    *Hooks
}

type ranked struct {
	rank  int
	hooks *Hooks
}

type link struct {
	slot      int
	everyone  ranked
	consumers map[string]ranked
	groups    map[string]ranked
}

// none runs for callers without the plugin.
var none = &Hooks{}

// NewChain compiles links, which must be in the order of plugin.All.
func NewChain(links []Link) *Chain {
	c := &Chain{}
	for i := range links {
		c.add(&links[i])
	}
	slices.Reverse(c.receive)
	slices.Reverse(c.response)
	return c
}

func (c *Chain) add(l *Link) {
	if len(l.Scoped) == 0 {
		if h := l.Everyone; h != nil {
			c.note(h)
			if h.Request != nil {
				c.request = append(c.request, requestStep{run: h.Request})
			}
			if h.Receive != nil {
				c.receive = append(c.receive, exchangeStep{run: h.Receive})
			}
			if h.Response != nil {
				c.response = append(c.response, exchangeStep{run: h.Response})
			}
			if h.Log != nil {
				c.log = append(c.log, exchangeStep{run: h.Log})
			}
		}
		return
	}
	v := &link{slot: c.variants, everyone: ranked{l.Rank, l.Everyone}, consumers: map[string]ranked{}, groups: map[string]ranked{}}
	c.variants++
	if v.everyone.hooks == nil {
		v.everyone = ranked{1 << 30, none}
	}
	c.note(v.everyone.hooks)
	for i := range l.Scoped {
		s := &l.Scoped[i]
		c.note(s.Hooks)
		into, id := v.consumers, s.Consumer
		if id == "" {
			into, id = v.groups, s.Group
		}
		if old, ok := into[id]; !ok || s.Rank < old.rank {
			into[id] = ranked{s.Rank, s.Hooks}
		}
	}
	c.request = append(c.request, requestStep{variant: v})
	c.receive = append(c.receive, exchangeStep{variant: v})
	c.response = append(c.response, exchangeStep{variant: v})
	c.log = append(c.log, exchangeStep{variant: v})
}

func (c *Chain) note(h *Hooks) {
	c.BuffersBody = c.BuffersBody || h.BuffersBody
	c.BuffersRequest = c.BuffersRequest || h.BuffersRequest
	c.ReadsHeaders = c.ReadsHeaders || h.Response != nil || h.Log != nil && !h.LogIgnoresHeaders
}

// Begin prepares x for this chain. The engine calls it once, before Request.
func (c *Chain) Begin(x *Exchange) {
	x.BuffersBody = c.BuffersBody
	x.picks = x.picks[:0]
	for range c.variants {
		x.picks = append(x.picks, nil)
	}
}

// Request runs the Request hooks down the list until one answers.
func (c *Chain) Request(x *Exchange) Verdict {
	for i := range c.request {
		s := &c.request[i]
		run := s.run
		if s.variant != nil {
			// The consumer is looked up when the plugin is reached: one that
			// runs before authentication sees none, as in Kong.
			h := s.variant.pick(x.Consumer)
			x.picks[s.variant.slot] = h
			if run = h.Request; run == nil {
				continue
			}
		}
		if run(x) == Done {
			return Done
		}
	}
	return Next
}

// Receive runs the Receive hooks back up the list, all of them. The engine calls it
// when the service has been called, before staged headers are written.
func (c *Chain) Receive(x *Exchange) {
	for i := range c.receive {
		s := &c.receive[i]
		run := s.run
		if s.variant != nil {
			if run = x.picked(s.variant).Receive; run == nil {
				continue
			}
		}
		run(x)
	}
}

// Response runs the Response hooks back up the list, all of them.
func (c *Chain) Response(x *Exchange) {
	for i := range c.response {
		s := &c.response[i]
		run := s.run
		if s.variant != nil {
			if run = x.picked(s.variant).Response; run == nil {
				continue
			}
		}
		run(x)
	}
}

// Log runs the Log hooks, all of them.
func (c *Chain) Log(x *Exchange) {
	for i := range c.log {
		s := &c.log[i]
		run := s.run
		if s.variant != nil {
			if run = x.picked(s.variant).Log; run == nil {
				continue
			}
		}
		run(x)
	}
}

// picked returns the hooks chosen for x in Request, choosing now if an earlier
// hook answered first.
func (x *Exchange) picked(v *link) *Hooks {
	if h := x.picks[v.slot]; h != nil {
		return h
	}
	h := v.pick(x.Consumer)
	x.picks[v.slot] = h
	return h
}

// pick applies Kong's table of scopes: the lowest rank among what the consumer,
// the alphabetically first of his groups with such settings, and everyone have.
func (v *link) pick(c *Consumer) *Hooks {
	best := v.everyone
	if c == nil {
		return best.hooks
	}
	if r, ok := v.consumers[c.ID]; ok && r.rank < best.rank {
		best = r
	}
	for _, g := range c.Groups {
		if r, ok := v.groups[g.ID]; ok {
			if r.rank < best.rank {
				best = r
			}
			break
		}
	}
	return best.hooks
}
