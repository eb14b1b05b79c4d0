package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

var redisTool = tool{name: "redis-server", apt: "redis-server"}

var sluiceBinary = &binary{name: "sluice", make: buildSluice}

var plainSubject = &subject{
	name:   "plain",
	about:  "sluice, one route, no plugin, GOMAXPROCS=1",
	binary: sluiceBinary, status: true,
	prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
		return prepareSluice(l, dir, plainDocument(p))
	},
}

var fullSubject = &subject{
	name:   "full",
	about:  "sluice, 10,000 routes, 1,000 consumers, key-auth, rate-limiting by consumer, upstream of 4 targets by consistent hashing on the consumer, correlation-id, prometheus, GOMAXPROCS=1",
	binary: sluiceBinary, status: true, verify: verifyPolicy,
	prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
		return prepareSluice(l, dir, fullDocument(p, l.o.balancer, localLimits))
	},
}

var fullRedisSubject = &subject{
	name:   "full-redis",
	about:  "full, but that the limits are shared by Redis, batched: sync_rate 0.5; Redis beside generator and service",
	tools:  []tool{redisTool},
	binary: sluiceBinary, status: true, verify: verifyPolicy,
	prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
		if err := l.startRedis(); err != nil { // once in a run
			return nil, err
		}
		return prepareSluice(l, dir, fullDocument(p, l.o.balancer, redisLimits(l.redisPort)))
	},
}

var cachedSubject = &subject{
	name:   "cached",
	about:  "sluice, one route, proxy-cache in memory, prometheus, GOMAXPROCS=1",
	binary: sluiceBinary, status: true,
	prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
		return prepareSluice(l, dir, cachedDocument(p))
	},
	verify: func(ctx context.Context, l *lab, r *running) error {
		return errors.Join(
			verifyHits(ctx, l, r, func(h http.Header) bool { return h.Get("X-Cache-Status") == "Hit" }),
			verifyMetrics(ctx, l, r),
		)
	},
}

// buildSluice returns the given binary's absolute path, or compiles cmd/sluice.
func buildSluice(ctx context.Context, l *lab) (string, error) {
	if l.o.sluice == "" {
		return buildGo(ctx, l.dir, "cmd/sluice")
	}
	path, err := exec.LookPath(l.o.sluice)
	if err != nil {
		return "", fmt.Errorf("-sluice: %w", err)
	}
	return filepath.Abs(path)
}

func prepareSluice(l *lab, dir string, document []byte) (*program, error) {
	path := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(path, document, 0o600); err != nil {
		return nil, err
	}
	return &program{args: []string{l.built["sluice"], "run", "-c", path}, env: []string{"GOMAXPROCS=1"}}, nil
}
