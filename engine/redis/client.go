package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lanesMax is how many connections a client has to a node, each of which
	// carries one pipeline at a time.
	lanesMax = 4
	// batchMax is the most calls in one pipeline.
	batchMax = 128
	// queueMax is the most calls that wait for a lane.
	queueMax = 1024
)

// Client runs scripts in one Redis, or what stands for one, and keeps values in it.
// Safe for concurrent use; must not be copied.
type Client struct {
	settings Settings
	tls      *tls.Config
	dial     func(ctx context.Context, address string) (net.Conn, error)
	log      *slog.Logger
	meters   *meters

	scripts track    // of Run and RunMany
	values  track    // of everything whose size is not known to be small
	hashes  sync.Map // script → its SHA-1 in hexadecimal

	live   atomic.Pointer[link] // nil while away
	why    atomic.Pointer[reason]
	opened chan struct{} // closed when the first try to connect is over

	ctx   context.Context // of everything the client does by itself
	close context.CancelFunc
	work  sync.WaitGroup

	closing chan struct{} // closed when Close begins
	begin   func()        // closes it, once
	every   sync.WaitGroup
}

// reason is why the client is away, and since when.
type reason struct {
	err   error
	since time.Time
}

// Options are what a Client is given by its surroundings. All may be left out.
type Options struct {
	// Log is told when Redis is away and when it is there again.
	Log *slog.Logger
	// Dial connects to host:port over TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Open returns a client and starts to connect it, without waiting. An error is one in
// the settings: a Redis that cannot be reached is none.
func Open(s Settings, o Options) (*Client, error) {
	c := &Client{settings: s.completed(), dial: o.Dial, log: o.Log, opened: make(chan struct{}), closing: make(chan struct{})}
	c.begin = sync.OnceFunc(func() { close(c.closing) })
	var err error
	if c.tls, err = c.settings.tlsConfig(); err != nil {
		return nil, err
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.dial == nil {
		var d net.Dialer
		c.dial = func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	c.meters = newMeters(c)
	c.why.Store(&reason{ErrAway, time.Now()})
	c.ctx, c.close = context.WithCancel(context.Background())
	c.scripts = track{callsMax: batchMax, seconds: c.meters.seconds}
	c.values = track{values: true, callsMax: valuesBatchMax, seconds: c.meters.valueSeconds}
	c.pave(&c.scripts, c.settings.ConnectionsMax, queueMax)
	c.pave(&c.values, c.settings.valueLanes(), valuesQueueMax)
	c.work.Go(c.connect)
	return c, nil
}

// Close lets what Every was given run a last time, fails the calls under way with
// ErrClosed and waits until nothing that the client started runs any more. Later
// calls do nothing.
func (c *Client) Close() error {
	c.begin()
	c.every.Wait()
	c.close()
	c.work.Wait()
	return nil
}

// connect keeps a link to Redis: it opens one, waits until it is lost and opens
// another, with growing waits while that fails.
func (c *Client) connect() {
	wait := time.Duration(0)
	var told reason
	for {
		l, err := c.openLink()
		if err == nil {
			c.why.Store(nil)
			c.live.Store(l)
			c.tell(&told, nil)
		} else {
			c.why.Store(&reason{err, time.Now()})
		}
		select {
		case <-c.opened:
		default:
			close(c.opened)
		}
		if err == nil {
			select {
			case <-l.lost:
			case <-c.ctx.Done():
				c.live.Store(nil)
				l.cut()
				l.retire()
				return
			}
			if l.proven.Load() {
				wait = 0
			}
			c.work.Go(l.retire)
		}
		c.tell(&told, c.why.Load().err)
		wait = longer(wait)
		if !c.pause(wait/2 + rand.N(wait)) {
			return
		}
	}
}

// pause waits, and reports whether the client is still open.
func (c *Client) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// tellEvery is how often the same thing is logged again.
const tellEvery = 10 * time.Second

// tell logs that Redis is away, with the reason, or there again.
func (c *Client) tell(told *reason, err error) {
	if c.ctx.Err() != nil {
		return
	}
	now := time.Now()
	switch {
	case err == nil && told.err != nil:
		c.log.Info("redis is there", "redis", c.settings.Name())
		told.err = nil
	case err != nil && (told.err == nil || told.err.Error() != err.Error()) && now.Sub(told.since) > tellEvery,
		err != nil && told.since.IsZero():
		c.log.Warn("redis is away", "redis", c.settings.Name(), "error", err)
		*told = reason{err, now}
	}
}

// lose gives up a link that has failed.
func (c *Client) lose(l *link, err error) {
	if c.scripts.circuits != nil {
		return // the nodes of a cluster come and go one by one
	}
	r := &reason{err, time.Now()}
	if c.live.CompareAndSwap(l, nil) {
		c.why.Store(r)
		close(l.lost)
	}
}

// Run runs a script and returns its integers. keys and args are not to be changed
// afterwards, also where it failed. It waits for no longer than read_timeout and the
// deadline of ctx allow. With a cluster it needs a key, and all its keys in one slot.
func (c *Client) Run(ctx context.Context, script string, keys, args []string) ([]int64, error) {
	k := newCall(runs, keys)
	k.script, k.args = script, args
	mine, err := c.do(ctx, k)
	if !mine {
		return nil, err
	}
	out := k.ints
	k.recycle()
	return out, err
}

// do has a call answered, or leaves when its time is up. Only where it is mine, with an
// answer or an error in it, has the caller it back, to recycle.
func (c *Client) do(ctx context.Context, k *call) (mine bool, err error) {
	start := time.Now()
	k.deadline = c.deadline(ctx, start)
	timer := timers.Get().(*time.Timer)
	timer.Reset(k.deadline.Sub(start))
	if err = c.put(ctx, k, timer.C); err != nil {
		k.recycle()
	} else {
		mine, err = c.wait(ctx, k, timer.C)
	}
	timer.Stop()
	timers.Put(timer)
	c.meters.count(err)
	return mine, err
}

// timers are stopped ones.
var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// RunMany runs a script for each element of keys and args, under way together, and
// returns what Run would for each.
func (c *Client) RunMany(ctx context.Context, script string, keys, args [][]string) ([][]int64, []error) {
	start := time.Now()
	deadline := c.deadline(ctx, start)
	timer := time.NewTimer(deadline.Sub(start))
	defer timer.Stop()
	calls := make([]*call, len(keys))
	outs, errs := make([][]int64, len(keys)), make([]error, len(keys))
	for i := range keys {
		k := newCall(runs, keys[i])
		k.script, k.args, k.deadline = script, args[i], deadline
		if errs[i] = c.put(ctx, k, timer.C); errs[i] != nil {
			k.recycle()
			continue
		}
		calls[i] = k
	}
	for i, k := range calls {
		if k != nil {
			var mine bool
			if mine, errs[i] = c.wait(ctx, k, timer.C); mine {
				outs[i] = k.ints
				k.recycle()
			}
			if errors.Is(errs[i], ErrTimeout) {
				timer.Reset(0) // the others are late as well
			}
		}
		c.meters.count(errs[i])
	}
	return outs, errs
}

func (c *Client) deadline(ctx context.Context, now time.Time) time.Time {
	d := now.Add(c.settings.ReadTimeout)
	if own, ok := ctx.Deadline(); ok && own.Before(d) {
		return own
	}
	return d
}

// put hands a call to a lane. An error says that it was not.
func (c *Client) put(ctx context.Context, k *call, late <-chan time.Time) error {
	if c.live.Load() == nil {
		// Slow path: away, or not yet tried.
		select {
		case <-c.opened:
		case <-late:
			return ErrTimeout
		case <-ctx.Done():
			return gone(ctx)
		case <-c.ctx.Done():
			return ErrClosed
		}
		if c.live.Load() == nil {
			if c.ctx.Err() != nil {
				return ErrClosed
			}
			return c.absent()
		}
	}
	t := &c.values
	if k.verb == runs {
		t = &c.scripts
	}
	return t.put(k)
}

// absent is the error while away: ErrRefused with the words of Redis where login
// failed, since waiting will not help, else ErrAway.
func (c *Client) absent() error {
	if r := c.why.Load(); r != nil && errors.Is(r.err, ErrRefused) {
		return r.err
	}
	return ErrAway
}

// wait waits for the answer to a call that was put. Unless it is mine then it is not to
// be touched afterwards.
func (c *Client) wait(ctx context.Context, k *call, late <-chan time.Time) (mine bool, err error) {
	var left error
	select {
	case <-k.done:
		return true, k.err
	case <-late:
		left = ErrTimeout
	case <-ctx.Done():
		left = gone(ctx)
	case <-c.ctx.Done():
		left = ErrClosed
	}
	if k.state.CompareAndSwap(waiting, abandoned) {
		return false, left
	}
	<-k.done // answered in this very moment
	return true, k.err
}

// gone is why ctx is done, in the words of this package.
func gone(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ErrTimeout
	}
	return ctx.Err()
}
