package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// loadProfiled loads a subject. If the flags ask for a profile it is taken meanwhile, from
// the Admin listener of those that are sluice.
func (l *lab) loadProfiled(ctx context.Context, r *running) (*load, error) {
	seconds := l.o.secondsOf(r.group)
	if l.o.profile == "" || r.binary != sluiceBinary {
		return loadAndCheck(ctx, l, r.group, r.url, seconds)
	}
	taken := make(chan error, 1)
	path := filepath.Join(l.dir, fmt.Sprintf("%03d-%s.pprof", len(l.profiles), strings.ReplaceAll(r.name, "/", "-")))
	go func() { taken <- l.takeProfile(ctx, r, path, seconds) }()
	w, err := loadAndCheck(ctx, l, r.group, r.url, seconds)
	err = errors.Join(err, <-taken)
	if err == nil {
		l.profiles = append(l.profiles, path)
	}
	return w, err
}

// takeProfile stores a CPU profile of so many seconds.
func (l *lab) takeProfile(ctx context.Context, r *running, path string, seconds int) error {
	client := *l.client
	client.Timeout = 0 // the profile is sent when it is over
	a, err := (&lab{client: &client}).get(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", r.adminURL, seconds), "")
	if err != nil {
		return err
	}
	if a.status != 200 {
		return fmt.Errorf("profile of %s: status %d: %s", r.name, a.status, a.body)
	}
	return os.WriteFile(path, a.body, 0o600)
}

// mergeProfiles writes the sum of all profiles where the flags say.
func (l *lab) mergeProfiles(ctx context.Context) error {
	if l.o.profile == "" {
		return nil
	}
	if len(l.profiles) == 0 {
		return errors.New("-profile: no row of this run is sluice")
	}
	merged, err := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof", "-proto"}, l.profiles...)...).Output()
	if err != nil {
		return fmt.Errorf("go tool pprof -proto: %w", err)
	}
	return os.WriteFile(l.o.profile, merged, 0o644)
}
