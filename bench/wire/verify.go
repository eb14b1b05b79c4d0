package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// How much is asked before a measurement.
const (
	sampleRequests = 20      // spread over all request lines
	echoRequests   = 40      // of different consumers; enough that 4 targets all show
	answerMax      = 1 << 26 // bytes read of one answer; /metrics of 10,000 routes is large
)

// answer is what a checking request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// get asks for url, with an API key unless key is empty.
func (l *lab) get(ctx context.Context, url, key string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if key != "" {
		req.Header.Set("apikey", key)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: text}, nil
}

// servedCount finds the third number of nginx's stub_status: requests.
var servedCount = regexp.MustCompile(`(?m)^ \d+ \d+ (\d+) $`)

// served returns how many requests the service has got, this one included.
func (l *lab) served(ctx context.Context) (int64, error) {
	a, err := l.get(ctx, l.serviceURL()+countPath, "")
	if err != nil {
		return 0, err
	}
	match := servedCount.FindSubmatch(a.body)
	if match == nil {
		return 0, fmt.Errorf("GET %s: status %d, no count of requests in %q", countPath, a.status, a.body)
	}
	return strconv.ParseInt(string(match[1]), 10, 64)
}

// waitReady asks for url until the answer is 200.
func (l *lab) waitReady(ctx context.Context, p *process, url, key string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyMax, fmt.Errorf("not ready after %s", readyMax))
	defer cancel()
	for {
		probe, cancelProbe := context.WithTimeout(ctx, probePause)
		a, err := l.get(probe, url, key)
		cancelProbe()
		if err := p.alive(); err != nil {
			return err
		}
		if err == nil && a.status == http.StatusOK {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("status %d", a.status)
		}
		select {
		case <-ctx.Done():
			return p.fault(fmt.Errorf("GET %s: %w (last: %w)", url, context.Cause(ctx), err))
		case <-time.After(pollPeriod):
		}
	}
}

// verify checks a started subject: right answers on a sample, and what else its name
// promises.
func verify(ctx context.Context, l *lab, r *running) error {
	// Idle connections of the checks would still be the subject's to keep.
	defer l.client.CloseIdleConnections()
	err := verifySample(ctx, l, r.group, r.url)
	if err == nil && r.verify != nil {
		err = r.verify(ctx, l, r)
	}
	return err
}

// verifySample checks status and body on requests spread over those of the group.
func verifySample(ctx context.Context, l *lab, g *group, base string) error {
	lines := l.requests[g].lines
	for i := range sampleRequests {
		// The odd step makes the sample meet many consumers, not one.
		if _, err := l.getRight(ctx, g, base, lines[i*(len(lines)/sampleRequests+1)%len(lines)]); err != nil {
			return err
		}
	}
	return nil
}

// getRight sends one request of the load and returns the headers of the right answer.
func (l *lab) getRight(ctx context.Context, g *group, base string, line requestLine) (http.Header, error) {
	a, err := l.get(ctx, base+line.path, line.key)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: want status 200, got %d", line.path, a.status)
	}
	if sha256.Sum256(a.body) != l.digests[g.body()] {
		return nil, fmt.Errorf("GET %s: the body (%d bytes) is not the service's", line.path, len(a.body))
	}
	return a.header, nil
}

// verifyHits asks for everything twice; the second time each answer must be the right
// one, and a hit by the subject's own account.
func verifyHits(ctx context.Context, l *lab, r *running, isHit func(http.Header) bool) error {
	lines := l.requests[r.group].lines
	for _, line := range lines {
		if _, err := l.getRight(ctx, r.group, r.url, line); err != nil {
			return err
		}
	}
	for _, line := range lines {
		header, err := l.getRight(ctx, r.group, r.url, line)
		if err != nil {
			return err
		}
		if !isHit(header) {
			return fmt.Errorf("GET %s: not a hit the second time: %v", line.path, header)
		}
	}
	return nil
}

// verifyPolicy checks that keys are demanded, requests counted, identities and ids
// passed on, targets balanced and metrics kept: a subject that skipped one of these
// would be measured doing less than its name says.
func verifyPolicy(ctx context.Context, l *lab, r *running) error {
	if err := verifyKeys(ctx, l, r); err != nil {
		return err
	}
	if err := verifyEcho(ctx, l, r); err != nil {
		return err
	}
	return verifyMetrics(ctx, l, r)
}

// verifyKeys checks that a key is demanded and requests are counted.
func verifyKeys(ctx context.Context, l *lab, r *running) error {
	line := l.requests[r.group].lines[0]
	for _, key := range []string{wrongKey, ""} {
		a, err := l.get(ctx, r.url+line.path, key)
		if err != nil {
			return err
		}
		if a.status != http.StatusUnauthorized {
			return fmt.Errorf("GET %s with key %q: want status 401, got %d", line.path, key, a.status)
		}
	}
	a, err := l.get(ctx, r.url+line.path, line.key)
	if err != nil {
		return err
	}
	if a.header.Get("X-RateLimit-Remaining-Minute") == "" {
		return fmt.Errorf("GET %s: no X-RateLimit-Remaining-Minute in the answer: %v", line.path, a.header)
	}
	return nil
}

// verifyMetrics checks that requests are counted for Prometheus.
func verifyMetrics(ctx context.Context, l *lab, r *running) error {
	a, err := l.get(ctx, r.statusURL+"/metrics", "")
	if err != nil {
		return err
	}
	if a.status != http.StatusOK || !strings.Contains(string(a.body), "kong_http_requests_total{") {
		return fmt.Errorf("GET /metrics: status %d and no kong_http_requests_total", a.status)
	}
	return nil
}

// verifyEcho asks the service what it was told and through which target.
func verifyEcho(ctx context.Context, l *lab, r *running) error {
	targetOf := map[string]string{}
	targets := map[string]bool{}
	for i := range echoRequests {
		line := l.requests[r.group].lines[i/2] // every consumer twice
		a, err := l.get(ctx, r.url+echoPath, line.key)
		if err != nil {
			return err
		}
		told := strings.Split(string(a.body), "|") // port, consumer, request id
		if a.status != http.StatusOK || len(told) != 3 {
			return fmt.Errorf("GET %s: status %d, body %q", echoPath, a.status, a.body)
		}
		if told[1] != line.consumer || told[2] == "" {
			return fmt.Errorf("GET %s: want consumer %q and a request id at the service, got %q and %q", echoPath, line.consumer, told[1], told[2])
		}
		before, met := targetOf[line.consumer]
		if met && before != told[0] && l.o.balancer == "consistent-hashing" {
			return fmt.Errorf("GET %s: %s went to two targets", echoPath, line.consumer)
		}
		targetOf[line.consumer], targets[told[0]] = told[0], true
	}
	if len(targets) < 2 {
		return fmt.Errorf("GET %s: %d requests of %d consumers all went to one target", echoPath, echoRequests, len(targetOf))
	}
	return nil
}
