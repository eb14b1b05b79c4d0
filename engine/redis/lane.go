package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// The states of a call: who has it.
const (
	waiting   int32 = iota // its caller waits
	abandoned              // its caller has left; the lane that finds it frees it
	finished               // its answer is there
)

// call is one script on its way. It belongs to its caller, and to a lane from put
// until finish.
type call struct {
	script     string
	keys, args []string
	deadline   time.Time
	circuit    *circuit // nil but for a cluster
	trial      bool

	state atomic.Int32
	done  chan struct{}
	out   []int64
	err   error
}

var calls = sync.Pool{New: func() any {
	return &call{done: make(chan struct{}, 1)}
}}

func newCall(script string, keys, args []string, deadline time.Time) *call {
	k := calls.Get().(*call)
	k.script, k.keys, k.args, k.deadline = script, keys, args, deadline
	k.state.Store(waiting)
	return k
}

// take returns the answer of a finished call and gives the call back.
func (k *call) take() ([]int64, error) {
	out, err := k.out, k.err
	k.recycle()
	return out, err
}

func (k *call) recycle() {
	k.script, k.keys, k.args, k.circuit, k.trial, k.out, k.err = "", nil, nil, nil, false, nil, nil
	calls.Put(k)
}

// finish hands the answer to the caller, if he still waits.
func (k *call) finish(out []int64, err error) {
	k.out, k.err = out, err
	if k.state.CompareAndSwap(waiting, finished) {
		k.done <- struct{}{}
		return
	}
	k.recycle()
}

func (k *call) settle(answered, gone bool) {
	if k.circuit != nil {
		k.circuit.settle(time.Now(), k.trial, answered, gone)
	}
}

// lane answers calls until the client is closed, all that wait as one pipeline.
func (c *Client) lane(queue chan *call) {
	batch := make([]*call, 0, batchMax)
	for {
		select {
		case k := <-queue:
			batch = append(batch, k)
		case <-c.ctx.Done():
			return
		}
		for more := true; more && len(batch) < batchMax; {
			select {
			case k := <-queue:
				batch = append(batch, k)
			default:
				more = false
			}
		}
		c.send(batch)
		clear(batch)
		batch = batch[:0]
	}
}

// patience is the least time a pipeline gets: callers with less of it leave alone
// and do not take the connection with them.
const patience = 50 * time.Millisecond

// send sends a batch as one pipeline and finishes its calls.
func (c *Client) send(batch []*call) {
	now := time.Now()
	deadline := now.Add(min(patience, c.settings.ReadTimeout))
	n := 0
	for _, k := range batch {
		if k.state.Load() == abandoned {
			k.settle(false, false)
			k.recycle()
			continue
		}
		if k.deadline.After(deadline) {
			deadline = k.deadline
		}
		batch[n] = k
		n++
	}
	batch = batch[:n]
	l := c.live.Load()
	if n == 0 {
		return
	}
	if l == nil {
		for _, k := range batch {
			k.settle(false, false)
			k.finish(nil, ErrAway)
		}
		return
	}
	l.use.RLock()
	defer l.use.RUnlock()
	ctx, cancel := context.WithDeadline(c.ctx, deadline)
	defer cancel()
	results := c.evaluate(ctx, l, batch)
	c.meters.roundTrip(time.Since(now))
	for i, k := range batch {
		c.finish(l, k, results[i])
	}
}

// evaluate runs the scripts by their hashes, and those that Redis does not have once
// more by their sources, with which it has them.
func (c *Client) evaluate(ctx context.Context, l *link, batch []*call) []rueidis.RedisResult {
	commands := make([]rueidis.Completed, len(batch))
	for i, k := range batch {
		commands[i] = l.client.B().Evalsha().Sha1(c.hash(k.script)).Numkeys(int64(len(k.keys))).Key(k.keys...).Arg(k.args...).Build()
	}
	results := l.client.DoMulti(ctx, commands...)
	var missing []int
	for i := range results {
		if err := results[i].Error(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			missing = append(missing, i)
		}
	}
	if missing == nil {
		return results
	}
	// Slow path: a Redis that has been restarted, or told to forget its scripts.
	c.meters.loads.Inc()
	commands = make([]rueidis.Completed, len(missing))
	for n, i := range missing {
		k := batch[i]
		commands[n] = l.client.B().Eval().Script(k.script).Numkeys(int64(len(k.keys))).Key(k.keys...).Arg(k.args...).Build()
	}
	for n, r := range l.client.DoMulti(ctx, commands...) {
		results[missing[n]] = r
	}
	return results
}

// hash returns the name that Redis has for a script.
func (c *Client) hash(script string) string {
	if h, ok := c.hashes.Load(script); ok {
		return h.(string)
	}
	sum := sha1.Sum([]byte(script))
	h := hex.EncodeToString(sum[:])
	c.hashes.Store(script, h)
	return h
}

// finish reads one result.
func (c *Client) finish(l *link, k *call, r rueidis.RedisResult) {
	out, err := r.AsIntSlice()
	if err == nil {
		if !l.proven.Load() {
			l.proven.Store(true)
		}
		k.settle(true, false)
		k.finish(out, nil)
		return
	}
	kind, gone := classify(err)
	k.settle(!gone, gone)
	if gone {
		c.lose(l, describe(kind, err))
	}
	if kind == faultAnswer || kind == faultRefused {
		k.finish(nil, describe(kind, err))
		return
	}
	k.finish(nil, faultErrors[kind])
}
