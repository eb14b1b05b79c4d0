package proxycache

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis"
)

// shelf is one memory of answers with what belongs to it. It is kept over reloads under
// its name. Safe for concurrent use.
type shelf struct {
	name    string
	key     string     // and what else it was opened with
	mu      sync.Mutex // changes of tiers
	store   *cache.Store
	flights *flights
	tiers   atomic.Pointer[[]*tier] // behind it; nil for none
	meters  meters
	log     *slog.Logger

	services sync.Map // ids that may have answers here
	encoding encoders
	behind   atomic.Int64
	pumps    atomic.Int64
	unswept  atomic.Bool
	sweeping atomic.Bool
	ticks    atomic.Int64
}

const (
	// behindMax is how many stale answers are asked for anew at a time beside requests.
	behindMax = 256
	// pumpsMax is how many answers are read into the store at a time as they come.
	pumpsMax = 4096
	// sweepEvery is how often the store is swept for what has expired, in seconds.
	sweepEvery = 60
)

// now is the time in milliseconds since 1970, from the shared clock.
func (s *shelf) now() int64 { return pipeline.WallMillis(pipeline.Now()) }

// openShelf returns the shelf that m names. A file is one shelf, whatever it is called.
func openShelf(m Memory, env *pipeline.Env) (*shelf, error) {
	if m.Size == 0 {
		m.Size = env.Document.Gateway.MemCacheSize
	}
	key := "name/" + m.DictionaryName
	if m.File != "" {
		key = "file/" + m.File
	}
	if first := pipeline.Shared(env, "proxycache/name/"+m.DictionaryName, func() *Memory { return &m }); *first != m {
		return nil, fmt.Errorf("memory: %q has another size or file in another instance: size %d, max_object_size %d, file %q there; %d, %d, %q here",
			m.DictionaryName, first.Size, first.MaxObjectSize, first.File, m.Size, m.MaxObjectSize, m.File)
	}
	if first := pipeline.Shared(env, "proxycache/"+key, func() *Memory { return &m }); *first != m {
		return nil, fmt.Errorf("memory.file: %q is the file of %q in another instance, and of %q here", m.File, first.DictionaryName, m.DictionaryName)
	}
	s, err := pipeline.Keep(env, "proxycache/"+key, func() (*shelf, error) { return newShelf(key, &m, env) })
	if err != nil {
		return nil, err
	}
	s.store.Resize(int64(m.Size))
	if int64(m.MaxObjectSize) > s.store.ObjectMax() {
		env.Log.Warn("memory.max_object_size grows with a restart only", "memory", s.name, "now", s.store.ObjectMax())
	}
	for _, e := range env.Document.Services {
		s.services.Store(e.ID, nil)
	}
	return s, nil
}

func newShelf(key string, m *Memory, env *pipeline.Env) (*shelf, error) {
	s := &shelf{name: m.DictionaryName, key: key, flights: newFlights(), log: env.Log}
	s.services.Store("", nil)
	if env.Trial && m.File != "" { // a gateway that serves may have it open
		if at, err := os.Stat(filepath.Dir(m.File)); err != nil || !at.IsDir() {
			return nil, fmt.Errorf("memory.file: %q: there is no directory %s", m.File, filepath.Dir(m.File))
		}
		trial := *m
		trial.File = ""
		m = &trial
	}
	store, err := cache.Open(cache.Config{Bytes: int64(m.Size), ObjectMax: int64(max(m.MaxObjectSize, min(m.Size/16, 16<<20))), File: m.File, Format: headFormat}, s.now())
	if err != nil {
		return nil, fmt.Errorf("memory.file: %w", err)
	}
	s.store = store
	if m.File != "" {
		r := store.Recovered()
		env.Log.Info("response cache opened", "file", m.File, "entries", r.Entries, "dropped", r.Dropped, "empty", r.Why)
	}
	return s, nil
}

// Close implements io.Closer. Answers on their way to clients are still read.
func (s *shelf) Close() error {
	return s.store.Close(s.now())
}

// openTier returns the Redis behind s that c names.
func openTier(c *Config, s *shelf, env *pipeline.Env) (*tier, error) {
	settings, err := c.Redis.Settings(&env.Document.Gateway, "")
	if err != nil {
		return nil, err
	}
	client, err := redis.Use(env, c.Redis, "")
	if err != nil {
		return nil, err
	}
	return pipeline.Keep(env, fmt.Sprintf("proxycache/%s/redis/%s", s.key, settings.Key()), func() (*tier, error) {
		return newTier(client, s), nil
	})
}

// connect adds a tier to those behind s, disconnect takes it away.
func (s *shelf) connect(t *tier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(slices.Clone(s.behindIt()), t)
	s.tiers.Store(&all)
}

func (s *shelf) disconnect(t *tier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(s.behindIt()), func(o *tier) bool { return o == t })
	s.tiers.Store(&all)
}

// behindIt are the tiers behind s.
func (s *shelf) behindIt() []*tier {
	if all := s.tiers.Load(); all != nil {
		return *all
	}
	return nil
}

// Prune is called once a second: it gives memory of what has been purged or has expired
// back, beside the caller.
func (s *shelf) Prune(int64) {
	due := s.ticks.Add(1)%sweepEvery == 0
	if !due && !s.unswept.Swap(false) || !s.sweeping.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.sweeping.Store(false)
		s.store.Sweep(s.now())
	}()
}

// Expose implements pipeline.Exposer.
func (s *shelf) Expose(w io.Writer) {
	s.meters.expose(w, s.name)
	stats := s.store.Stats()
	exposeStore(w, s.name, &stats)
}

// fetchBehind runs f beside the request if there is room, and reports whether it does.
func (s *shelf) fetchBehind(f func()) bool {
	if s.behind.Add(1) > behindMax {
		s.behind.Add(-1)
		return false
	}
	go func() {
		defer s.behind.Add(-1)
		defer s.settle()
		f()
	}()
	return true
}

// settle ends a goroutine of ours that panics: an answer fails, not the process.
func (s *shelf) settle() {
	if r := recover(); r != nil {
		s.log.LogAttrs(context.Background(), slog.LevelError, "panic while fetching for the cache", slog.Any("panic", r))
	}
}
