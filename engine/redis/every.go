package redis

import (
	"context"
	"sync"
	"time"
)

const (
	// everyMin is the least time between two calls of Every.
	everyMin = 20 * time.Millisecond
	// lastMax is how long the last call of Every may take, since a snapshot or the
	// process waits for it.
	lastMax = 500 * time.Millisecond
)

// Every has f called every so often, one call at a time, for what is told to Redis in
// batches; each call has read_timeout for it. stop has it called once more and waits
// for that; so does Close, before it closes. Errors of f are not lost: they are those
// of Run and are counted there.
func (c *Client) Every(period time.Duration, f func(ctx context.Context) error) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	c.every.Go(func() {
		defer close(done)
		tick := time.NewTicker(max(period, everyMin))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.once(f, c.settings.ReadTimeout)
			case <-stopped:
				c.once(f, min(c.settings.ReadTimeout, lastMax))
				return
			case <-c.closing:
				c.once(f, min(c.settings.ReadTimeout, lastMax))
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(stopped)
		<-done
	})
}

func (c *Client) once(f func(ctx context.Context) error, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	_ = f(ctx)
}
