package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// checkPeriod is the pause between the checks that are sent beside the load.
const checkPeriod = 100 * time.Millisecond

// sample sends the scenario's checks and remembers how they came out. Safe for
// concurrent use.
type sample struct {
	mu     sync.Mutex
	sent   int
	wrong  int
	faults []error // the first faultsMax
}

func (s *sample) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	if err == nil {
		return
	}
	s.wrong++
	if len(s.faults) < faultsMax {
		s.faults = append(s.faults, err)
	}
}

// sendAll sends every check once.
func (s *sample) sendAll(ctx context.Context, l *lab) {
	for i := range l.sc.Checks {
		s.note(l.check(ctx, &l.sc.Checks[i]))
	}
}

// keepSending sends the checks in turn until ctx is done.
func (s *sample) keepSending(ctx context.Context, l *lab) {
	tick := time.NewTicker(checkPeriod)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// What was begun is finished: an answer cut off by the end is nobody's fault.
		s.note(l.check(context.WithoutCancel(ctx), &l.sc.Checks[i%len(l.sc.Checks)]))
	}
}

// check sends one check through the gateway. The error says what differs.
func (l *lab) check(ctx context.Context, c *Check) error {
	method, status := c.Method, c.Status
	if method == "" {
		method = http.MethodGet
	}
	if status == 0 {
		status = http.StatusOK
	}
	fault := func(format string, args ...any) error {
		return fmt.Errorf("check %s %s: %w", method, c.Path, fmt.Errorf(format, args...))
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.proxy+c.Path, http.NoBody)
	if err != nil {
		return fault("%w", err)
	}
	for name, value := range c.Headers {
		req.Header.Set(name, value)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return fault("%w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return fault("after %d bytes of the body: %w", n, err)
	}
	if resp.StatusCode != status {
		return fault("status %d, want %d", resp.StatusCode, status)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); c.SHA256 != "" && got != c.SHA256 {
		return fault("body of %d bytes has SHA-256 %s, want %s", n, got, c.SHA256)
	}
	for name, want := range c.Want {
		if got := resp.Header.Get(name); got != want {
			return fault("header %s is %q, want %q", name, got, want)
		}
	}
	return nil
}

// checkCounts asks the services how many requests reached them.
func (l *lab) checkCounts(ctx context.Context) error {
	var errs []error
	for _, c := range l.sc.Counts {
		for i, address := range l.stubs {
			_, body, err := l.get(ctx, "http://"+address+"/counts?prefix="+url.QueryEscape(c.Prefix))
			var got struct{ Requests, Most, Other int64 }
			if err == nil {
				err = json.Unmarshal(body, &got)
			}
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("counts of service %d: %w", i, err))
			case got.Most > c.MostPerPath:
				errs = append(errs, fmt.Errorf("service %d: a path below %s was asked for %d times, want at most %d", i, c.Prefix, got.Most, c.MostPerPath))
			case got.Requests == 0 || got.Other > 0:
				errs = append(errs, fmt.Errorf("service %d: %d requests below %s and %d on paths beyond those it tells apart, want some and none", i, got.Requests, c.Prefix, got.Other))
			}
		}
	}
	return errors.Join(errs...)
}
