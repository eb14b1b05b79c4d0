package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// disturb lets the scenario's events happen while a point of the given duration runs, and
// returns when the last has, or ctx is done. The error says which did not succeed.
func (l *lab) disturb(ctx context.Context, duration time.Duration) error {
	errs := make([]error, len(l.sc.Events))
	var wg sync.WaitGroup
	for i, e := range l.sc.Events {
		wg.Go(func() { errs[i] = l.happen(ctx, &e, duration) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// happen does what e says at its time. A point that ends earlier is not an error.
func (l *lab) happen(ctx context.Context, e *Event, duration time.Duration) error {
	pause := e.Every
	if pause == 0 {
		pause = duration * time.Duration(e.At) / 100
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// What was begun is finished, so that the next point finds everything in place.
		if err := l.deed(context.WithoutCancel(ctx), e); err != nil {
			return fmt.Errorf("event %s: %w", e.Do, err)
		}
		if e.Every == 0 {
			return nil
		}
	}
}

func (l *lab) deed(ctx context.Context, e *Event) error {
	switch e.Do {
	case "reload":
		return l.reload(ctx)
	case "stop-service":
		return l.running(&l.services[e.Service]).kill()
	case "start-service":
		return l.startService(ctx, e.Service)
	case "stop-redis":
		return l.running(&l.redis).kill()
	case "start-redis":
		return l.startRedis(ctx)
	}
	panic("BUG: event " + e.Do)
}

func (l *lab) running(c **process) *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *c
}

// writeGeneration writes the document that every reload changes: a route whose answer
// is the number of the generation.
func (l *lab) writeGeneration(n int) error {
	text := fmt.Sprintf(`_format_version: "3.0"
routes:
- name: generation
  paths: [/generation]
  plugins:
  - name: request-termination
    config: {status_code: 200, content_type: text/plain, body: "generation %d"}
`, n)
	path := filepath.Join(l.dir, changingDoc)
	// Renamed into place: a gateway that watches its files never reads half of one.
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// reload changes the document, has the gateway read it, and holds it to have done so:
// the answer of the changed route must be the new one.
func (l *lab) reload(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	if err := l.writeGeneration(l.generation); err != nil {
		return err
	}
	began := time.Now()
	status, body, err := l.do(ctx, http.MethodPost, "http://"+l.admin+"/reload")
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("POST /reload: status %d, want 200: %s", status, firstBytes(body))
	}
	l.reloads++
	l.slowest = max(l.slowest, time.Since(began))
	_, body, err = l.get(ctx, "http://"+l.proxy+"/generation")
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("generation %d", l.generation); strings.TrimSpace(string(body)) != want {
		return fmt.Errorf("after a reload /generation answers %q, want %q", firstBytes(body), want)
	}
	return nil
}

// firstBytes is the beginning of a body, for a message.
func firstBytes(body []byte) string { return string(body[:min(len(body), 200)]) }

// slowClients are the connections beside the load; stop ends them.
type slowClients struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	served atomic.Int64
	mu     sync.Mutex
	faults []error
	failed int
}

const faultsMax = 10 // faults of one kind that are told one by one

// openSlow starts the slow clients of the scenario, if it has any.
func (l *lab) openSlow(ctx context.Context) *slowClients {
	ctx, cancel := context.WithCancel(ctx)
	s := &slowClients{cancel: cancel}
	w := l.sc.SlowClients
	if w == nil {
		return s
	}
	for range w.Count {
		s.wg.Go(func() {
			for ctx.Err() == nil {
				err := w.request(ctx, l.proxy)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					s.fault(err)
					return
				default:
					s.served.Add(1)
				}
			}
		})
	}
	return s
}

func (s *slowClients) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed++
	if len(s.faults) < faultsMax {
		s.faults = append(s.faults, err)
	}
}

func (s *slowClients) stop() {
	s.cancel()
	s.wg.Wait()
}

// request sends one request and reads its answer, a few bytes at a time.
func (w *SlowClients) request(ctx context.Context, address string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	out := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: slow\r\nConnection: close\r\n\r\n", w.Path)
	for len(out) > 0 {
		n, err := io.WriteString(c, out[:min(len(out), w.Bytes)])
		if err != nil {
			return fmt.Errorf("slow client, sending: %w", err)
		}
		out = out[n:]
		<-tick.C
	}
	var head []byte
	part := make([]byte, w.Bytes)
	for {
		n, err := c.Read(part)
		if len(head) < len(statusOK) {
			head = append(head, part[:n]...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("slow client, reading: %w", err)
		}
		<-tick.C
	}
	if !strings.HasPrefix(string(head), statusOK) {
		return fmt.Errorf("slow client: answer begins %q, want %q", firstBytes(head), statusOK)
	}
	return nil
}

const statusOK = "HTTP/1.1 200 "
