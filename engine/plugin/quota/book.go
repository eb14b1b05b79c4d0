package quota

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis"
	"github.com/sluice-gateway/sluice/limiter"
)

// book is what an instance has counted: what outlives a snapshot. Safe for concurrent
// use.
type book struct {
	plan atomic.Pointer[plan] // of the newest snapshot

	quotas *limiter.Quotas // nil with Redis
	seed   uint64          // of the keys in quotas
	ledger *ledger         // the files of quotas

	heard *heard // what Redis has told; nil without

	refusals    pipeline.ShardedCounter
	warnings    pipeline.ShardedCounter
	storeErrors pipeline.ShardedCounter
	summary     atomic.Pointer[summary]
}

// keepLocal returns the counts of the instance in this process. Their key has what
// decides which files they are in and nothing else: two could not have the same files.
func keepLocal(c *Config, calendars []limiter.Calendar, env *pipeline.Env) (*book, error) {
	base, err := c.stateDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(base, "quota", fileName(env.Plugin.ID), fileName(c.calendarName(calendars)))
	return pipeline.Keep(env, "quota/"+dir, func() (*book, error) {
		if base == temporaryDir() {
			env.Log.Warn("quota: counts are kept in a directory for temporary files, which may be emptied: set state_dir, or make "+stateDirDefault+" writable",
				"plugin", env.Plugin.ID, "directory", base)
		}
		b := &book{quotas: limiter.NewQuotas(calendars, c.KeysMax)}
		l, err := openLedger(dir, b.quotas, env.Log)
		if err != nil {
			return nil, err
		}
		b.ledger, b.seed = l, l.seed
		return b, nil
	})
}

// keepShared returns the counts of the instance in Redis.
func keepShared(c *Config, calendars []limiter.Calendar, env *pipeline.Env) (*book, *shared, error) {
	block := c.Redis
	if c.Strategy == inCluster {
		block = nil
		if _, err := block.Settings(&env.Document.Gateway, ""); err != nil {
			return nil, nil, errNoCluster
		}
	}
	client, err := redis.Use(env, block, "")
	if err != nil {
		return nil, nil, err
	}
	kept, err := pipeline.Keep(env, fmt.Sprintf("quota/%s/redis/%s", env.Plugin.ID, c.calendarName(calendars)), func() (*book, error) {
		return &book{heard: newHeard()}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	return kept, newShared(client, env.Plugin.ID, calendars, kept.heard), nil
}

// errNoCluster refuses strategy cluster where nothing joins the nodes.
var errNoCluster = errors.New(`it counts in the Redis of the deployment, and there is none: set gateway.redis.default.host, or use "local"`)

// calendarName tells sets of periods apart.
func (c *Config) calendarName(calendars []limiter.Calendar) string {
	var b strings.Builder
	for i := range calendars {
		b.WriteString(calendars[i].Period.String())
		b.WriteByte('-')
	}
	return b.String() + c.ResetOn.String() + "-" + c.Timezone
}

// stateDirDefault is where a service keeps what must last (Filesystem Hierarchy
// Standard).
const stateDirDefault = "/var/lib/sluice"

func temporaryDir() string { return filepath.Join(os.TempDir(), "sluice-state") }

// stateDir finds the directory for files, which may not exist yet.
func (c *Config) stateDir() (string, error) {
	if c.StateDir != "" {
		return filepath.Abs(c.StateDir)
	}
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return filepath.Abs(dir)
	}
	if writable(stateDirDefault) {
		return stateDirDefault, nil
	}
	return temporaryDir(), nil
}

// writable reports whether files can be made in dir, which is made if it is not there.
func writable(dir string) bool {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return false
	}
	f, err := os.CreateTemp(dir, ".try-")
	if err != nil {
		return false
	}
	return errors.Join(f.Close(), os.Remove(f.Name())) == nil
}

// fileName is s with what a name of a file should not have replaced.
func fileName(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '+':
			return c
		}
		return '_'
	}, s)
}

// Prune lets what changed be written. The engine calls it once a second.
func (b *book) Prune(now int64) {
	if b.ledger != nil {
		b.ledger.poke()
	}
	if b.heard != nil {
		b.heard.prune(pipeline.WallMillis(now) / 1000)
	}
}

// Close writes what is not written yet.
func (b *book) Close() error {
	if b.ledger == nil {
		return nil
	}
	return b.ledger.close()
}
