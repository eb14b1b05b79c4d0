package ratelimiting

import (
	"context"
	"math/bits"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// decision is what became of a request.
type decision uint8

const (
	admitted decision = iota
	refused
	refusedHere // by the counters of this process, in place of a store that is away
	undecided   // the store is away
)

// take is hot: one decision of a table, in this process or in Redis. now is in
// milliseconds since 1970; used receives what each window holds.
func (l *limit) take(x *pipeline.Exchange, now, cost int64, used []int64) decision {
	switch {
	case l.shared != nil:
		return l.takeShared(x, now, cost, used)
	case l.batch != nil:
		var spans [limiter.SpansMax]limiter.Span
		ask := l.ask(now, cost, &spans)
		var name [nameSize]byte
		ok, forgot := l.batch.Take(view(l.who.append(name[:0], x)), &ask, used)
		return l.note(ok, forgot)
	}
	return l.takeHere(x, now, cost, used)
}

// nameSize is for an identity without a long header in it.
const nameSize = 128

func (l *limit) takeHere(x *pipeline.Exchange, now, cost int64, used []int64) decision {
	key := l.who.hash(x)
	if l.windows != nil {
		return l.note(l.windows.TakeN(key, now/1000, cost, l.limits, used))
	}
	return l.note(l.sliding.Take(key, now, cost, l.limits, used))
}

func (l *limit) note(ok, forgot bool) decision {
	if forgot {
		l.forgotten.Inc()
	}
	if !ok {
		return refused
	}
	return admitted
}

// takeShared asks Redis, which takes a round trip and some allocations; the client
// bounds how long.
func (l *limit) takeShared(x *pipeline.Exchange, now, cost int64, used []int64) decision {
	var spans [limiter.SpansMax]limiter.Span
	ask := l.ask(now, cost, &spans)
	ok, err := l.shared.Take(context.Background(), string(l.who.append(nil, x)), &ask, used)
	switch {
	case err == nil && ok:
		return admitted
	case err == nil:
		return refused
	}
	l.failed.Inc()
	if !l.fallback {
		return undecided
	}
	if l.takeHere(x, now, cost, used) == refused {
		return refusedHere
	}
	return admitted
}

// ask describes a request to the store.
func (l *limit) ask(now, cost int64, spans *[limiter.SpansMax]limiter.Span) limiter.Ask {
	for i := range l.headers.windows {
		w := &l.headers.windows[i]
		spans[i] = limiter.Span{Start: l.headers.start(w, now/1000), Size: w.size, Limit: w.limit, Sliding: l.slides}
	}
	return limiter.Ask{Now: now, Cost: cost, Spans: spans[:len(l.headers.windows)], CountRefused: l.penalty}
}

// wait returns in how many seconds a request that was refused just now would be
// admitted if no others came. One that costs more than a limit never would be: it is
// told when the window ends.
func (l *limit) wait(x *pipeline.Exchange, now, cost int64, used []int64, d decision) int64 {
	wait := int64(0)
	if l.slides {
		if l.sliding != nil && (d == refusedHere || l.shared == nil) {
			wait = (l.sliding.Wait(l.who.hash(x), now, cost, l.limits) + 999) / 1000
		} else {
			wait = l.waitShared(x, now, cost, used)
		}
	}
	if wait <= 0 {
		for i := range l.headers.windows {
			w := &l.headers.windows[i]
			if used[i]+cost > w.limit {
				wait = max(wait, l.headers.reset(w, now/1000))
			}
		}
	}
	return max(wait, 1)
}

// waitShared is wait in seconds for counts that others add to, 0 if it does not know.
// It asks for the counts of the current windows and concludes from them what those
// before weigh: a second script, for refusals only.
func (l *limit) waitShared(x *pipeline.Exchange, now, cost int64, used []int64) int64 {
	var spans [limiter.SpansMax]limiter.Span
	var current, all [limiter.SpansMax]int64
	ask := l.ask(now, 0, &spans)
	var name [nameSize]byte
	who := l.who.append(name[:0], x)
	if l.batch != nil {
		ask.Now = farAhead
		l.batch.Peek(view(who), &ask, current[:])
		ask.Now = 0
		l.batch.Peek(view(who), &ask, all[:])
	} else {
		// The request has waited already, and no request waits longer than the timeout.
		ctx, cancel := context.WithTimeout(context.Background(), min(peekMax, l.timeout-time.Duration(pipeline.Now()-x.Start)))
		defer cancel()
		ask.Now = farAhead
		if _, err := l.shared.Peek(ctx, string(who), &ask, current[:]); err != nil {
			return 0
		}
	}
	wait := int64(0)
	for i := range ask.Spans {
		s := &ask.Spans[i]
		room := s.Limit - cost
		if room < 0 {
			return 0
		}
		if used[i] <= room {
			continue
		}
		left := 1000*(s.Start+s.Size) - now
		switch before := all[i] - current[i]; {
		case current[i] > room:
			// The current window becomes the one before first.
			left += 1000*s.Size - ratio(room, 1000*s.Size, current[i])
		case before > 0:
			left -= ratio(room-current[i], 1000*s.Size, before)
		default:
			// Only the weight is known, rounded up: an event less makes the answer late.
			left -= ratio(room-current[i], left, max(used[i]-current[i], 1))
		}
		wait = max(wait, left)
	}
	return (wait + 999) / 1000
}

// farAhead is a time at which windows before the current one have no weight.
const farAhead = 1 << 60

// peekMax bounds what a refusal may take longer to tell when to come back.
const peekMax = 50 * time.Millisecond

// ratio returns a × b / c rounded down, for a < c and none negative.
func ratio(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return b
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(q)
}
