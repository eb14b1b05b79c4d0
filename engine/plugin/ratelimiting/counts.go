package ratelimiting

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis"
	"github.com/sluice-gateway/sluice/limiter"
)

// counts are what outlives a snapshot: the counters of an instance or namespace.
// Safe for concurrent use.
type counts struct {
	seeds [kinds]maphash.Seed

	// Counters in this process: calendar windows, or others. Beside shared they are
	// for when that fails.
	windows *limiter.Windows
	sliding *limiter.Sliding

	// Counters in Redis: asked for every request, or told now and then.
	shared  *limiter.Shared
	batch   *limiter.Batch
	timeout time.Duration // of a call

	waiting atomic.Int64 // throttled requests

	flusher *flusher
}

// Close implements io.Closer.
func (c *counts) Close() error {
	if c.flusher != nil {
		c.flusher.close()
	}
	return nil
}

// open returns the counters of the plan, which are new unless a snapshot has them.
func (p *plan) open(name string, env *pipeline.Env, failed *metrics.Counter) (*counts, error) {
	timeout := time.Duration(0)
	key := fmt.Sprintf("%s/%s/%v/%v/%v/%d/%s/%v", name, p.counters, p.sizes(), p.sliding, p.penalty, p.keysMax, p.store, p.sync)
	var client *redis.Client
	if p.store != local {
		s, err := p.settings(env)
		if err != nil {
			return nil, err
		}
		if client, err = redis.Use(env, p.connection(), p.redisHost); err != nil {
			return nil, err
		}
		key += "/" + s.Key()
		timeout = s.ReadTimeout
	}
	return pipeline.Keep(env, key, func() (*counts, error) {
		c := &counts{timeout: timeout}
		for i := range c.seeds {
			c.seeds[i] = maphash.MakeSeed()
		}
		switch {
		case client == nil:
			p.openHere(c)
		case p.sync == 0:
			c.shared = limiter.NewShared(client, p.counters)
			if p.fallback {
				p.openHere(c)
			}
		default:
			c.batch = limiter.NewBatch(client, p.counters, p.keysMax)
			c.flusher = flushEvery(p.sync, c.batch, failed)
		}
		return c, nil
	})
}

func (p *plan) openHere(c *counts) {
	if p.calendar {
		periods := make([]limiter.Period, len(p.windows))
		for i := range p.windows {
			periods[i] = p.windows[i].period
		}
		c.windows = limiter.NewWindows(periods, p.keysMax)
		return
	}
	c.sliding = limiter.NewSliding(limiter.SlidingConfig{Seconds: p.sizes(), Fixed: !p.sliding, Penalty: p.penalty, KeysMax: p.keysMax})
}

func (p *plan) sizes() []int64 {
	sizes := make([]int64, len(p.windows))
	for i := range p.windows {
		sizes[i] = p.windows[i].size
	}
	return sizes
}

// connection is the redis block that counts: none for the store of the whole cluster.
func (p *plan) connection() *redis.Config {
	if p.store == inCluster {
		return nil
	}
	return p.redis
}

// settings are those of the Redis that holds the counters.
func (p *plan) settings(env *pipeline.Env) (redis.Settings, error) {
	if p.store == inCluster {
		p.redisHost = "" // a whole cluster does not count on one node's own machine
	}
	s, err := p.connection().Settings(&env.Document.Gateway, p.redisHost)
	if err == nil || p.store != inCluster {
		return s, err
	}
	if len(env.Document.Gateway.Redis) == 0 {
		return s, fmt.Errorf("%s: \"cluster\" counts in the Redis of the deployment, and there is none: set gateway.redis.default.host, or use \"local\"", p.storeField)
	}
	return s, fmt.Errorf("%s: \"cluster\" counts in gateway.redis.default, and only other connections are named: name one of them default", p.storeField)
}

// flusher tells Redis now and then what a batch has counted.
type flusher struct {
	batch  *limiter.Batch
	failed *metrics.Counter
	stop   context.CancelFunc
	done   chan struct{}
}

func flushEvery(every time.Duration, b *limiter.Batch, failed *metrics.Counter) *flusher {
	ctx, stop := context.WithCancel(context.Background())
	f := &flusher{batch: b, failed: failed, stop: stop, done: make(chan struct{})}
	go f.run(ctx, every)
	return f
}

func (f *flusher) run(ctx context.Context, every time.Duration) {
	defer close(f.done)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f.flush(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// flush may run beside itself. It ends with ctx, or when Redis takes too long.
func (f *flusher) flush(ctx context.Context) {
	err := f.batch.Flush(ctx, pipeline.WallMillis(pipeline.Now()))
	if err != nil && !errors.Is(err, context.Canceled) {
		f.failed.Inc()
	}
}

// close returns when nothing is under way any more.
func (f *flusher) close() {
	f.stop()
	<-f.done
}
