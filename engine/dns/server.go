package dns

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// lookupTimeMax bounds a lookup, however many servers and attempts there are.
	lookupTimeMax = 30 * time.Second
	// silentFor is how long a server that did not answer is asked last.
	silentFor = 5 * time.Second
)

// conf is resolv.conf as it is used. Immutable but for what is atomic in server.
type conf struct {
	resolvConf
	servers []*server
}

// server is a name server.
type server struct {
	addr   string
	silent atomic.Int64 // until this time, in Unix nanoseconds, others are asked first
}

// newConf makes a conf. Servers that old has too keep what is known of them.
func newConf(rc resolvConf, old *conf, timeout time.Duration) *conf {
	if len(rc.servers) == 0 {
		rc.servers = []string{"127.0.0.1:" + port} // as every resolver does
	}
	if timeout > 0 {
		rc.timeout = timeout
	}
	if rc.timeout <= 0 {
		rc.timeout = timeoutDefault
	}
	c := &conf{resolvConf: rc}
	for _, addr := range rc.servers {
		s := &server{addr: addr}
		if old != nil {
			for _, o := range old.servers {
				if o.addr == addr {
					s = o
				}
			}
		}
		c.servers = append(c.servers, s)
	}
	return c
}

// bounded returns ctx with the time that a whole lookup may take: that of two
// questions nobody answers.
func (c *conf) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	question := c.timeout * time.Duration(c.attempts*len(c.servers))
	return context.WithTimeout(ctx, max(min(2*question, lookupTimeMax), c.timeout))
}

// inTurn returns the servers in the order to ask them: as listed, or each time
// beginning with another one, those that have just been silent last.
func (c *conf) inTurn(turn uint32, now time.Time) []*server {
	n := len(c.servers)
	first := 0
	if c.rotate {
		first = int(turn) % n
	}
	servers, silent := make([]*server, 0, n), []*server(nil)
	for i := range n {
		s := c.servers[(first+i)%n]
		if now.UnixNano() < s.silent.Load() {
			silent = append(silent, s)
		} else {
			servers = append(servers, s)
		}
	}
	return append(servers, silent...)
}

// ask asks for one type of one name until a server says what there is, or that
// there is nothing.
func (r *Resolver) ask(ctx context.Context, c *conf, name string, typ uint16) (*dns.Msg, error) {
	q := question(name, typ)
	servers := c.inTurn(r.turn.Add(1), time.Now())
	var last error
	for range c.attempts {
		for _, s := range servers {
			reply, err := r.try(ctx, c, s, q)
			if err == nil {
				return reply, nil
			}
			last = fmt.Errorf("%s %s: server %s: %w", dns.TypeToString[typ], name, s.addr, err)
			if ctx.Err() != nil {
				return nil, last
			}
		}
	}
	return nil, last
}

// try asks one server once.
func (r *Resolver) try(ctx context.Context, c *conf, s *server, q *dns.Msg) (*dns.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	reply, err := r.exchange(limited, s.addr, q)
	if err != nil {
		r.counts.unanswered.Add(1)
		err = fmt.Errorf("%w: %w", ErrNoReply, err)
		if ctx.Err() != nil {
			return nil, err // it was not given its time
		}
		if now := time.Now(); s.silent.Swap(now.Add(silentFor).UnixNano()) == 0 {
			r.log.Warn("dns: server does not answer", "server", s.addr, "error", err)
		}
		return nil, err
	}
	if s.silent.Load() != 0 && s.silent.Swap(0) != 0 {
		r.log.Info("dns: server answers again", "server", s.addr)
	}
	switch {
	case reply.Rcode == dns.RcodeNameError:
		r.counts.denied.Add(1)
	case reply.Rcode != dns.RcodeSuccess:
		r.counts.refused.Add(1)
		return nil, errors.New(rcode(reply.Rcode))
	case len(reply.Answer) > 0:
		r.counts.answered.Add(1)
	case !reply.Authoritative && !reply.RecursionAvailable && len(reply.Ns) > 0 && !hasSOA(reply):
		r.counts.refused.Add(1)
		return nil, errors.New("it only refers to other servers")
	default:
		r.counts.denied.Add(1)
	}
	return reply, nil
}

func rcode(code int) string {
	if s, ok := dns.RcodeToString[code]; ok {
		return s
	}
	return fmt.Sprintf("code %d", code)
}
