//go:build linux

package engine_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// shotKind is a kind of request of the load.
type shotKind uint8

const (
	shotGet   shotKind = iota // small answer, which the gateway holds whole
	shotBig                   // passed on as it comes, with a length or in chunks
	shotPost                  // must never reach services twice
	shotKeyed                 // a POST with an Idempotency-Key
)

// shotMix is what a load consists of: each upstream goes through it.
type shotMix [10]shotKind

var (
	mixed     = shotMix{shotGet, shotPost, shotGet, shotKeyed, shotGet, shotPost, shotBig, shotGet, shotPost, shotGet}
	mostlyBig = shotMix{shotBig, shotBig, shotGet, shotBig, shotPost, shotBig, shotBig, shotKeyed, shotBig, shotBig}
)

// shot is one request of the load and what became of it.
type shot struct {
	id         int
	kind       shotKind
	upstream   string
	planned    time.Time
	late       time.Duration // from planned until it was sent: what the load itself lost
	latency    time.Duration // from planned
	status     int           // 0 without an answer
	err        error
	body       string // of answers that are not 200
	retryAfter string
}

// failed reports whether the client did not get what it asked for.
func (s *shot) failed() bool { return s.err != nil || s.status != http.StatusOK }

// cut reports whether the answer broke off after its header was passed on.
func (s *shot) cut() bool { return s.err != nil && s.status == http.StatusOK }

func (s *shot) String() string {
	return fmt.Sprintf("request %d to %s, kind %d: status %d after %s, error %v %.120q", s.id, s.upstream, s.kind, s.status, s.latency, s.err, s.body)
}

// faultLoad sends requests at a fixed rate, whatever becomes of them. Latency counts
// from the planned time, so a stall shows in every request it delays.
type faultLoad struct {
	addr      string
	upstreams []string
	mix       shotMix
	rate      int64 // requests a second
	first     int   // id of the first request

	stop  chan struct{}
	done  chan struct{}
	fired atomic.Int64

	mu    sync.Mutex
	shots []*shot
	idle  []*faultConn
}

const (
	loadRate     = 420 // a second, over all upstreams
	loadPatience = 10 * time.Second
)

// start begins to send; end must be called.
func (l *faultLoad) start() {
	l.stop, l.done = make(chan struct{}), make(chan struct{})
	go l.run()
}

func (l *faultLoad) run() {
	defer close(l.done)
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	began, n := time.Now(), 0
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Nanoseconds() * l.rate / int64(time.Second)); n < due; n++ {
			s := &shot{
				id: l.first + n, upstream: l.upstreams[n%len(l.upstreams)], kind: l.mix[n/len(l.upstreams)%len(l.mix)],
				planned: began.Add(time.Duration(int64(n) * int64(time.Second) / l.rate)),
			}
			under.Go(func() {
				s.late = time.Since(s.planned)
				l.send(s)
				s.latency = time.Since(s.planned)
				l.mu.Lock()
				l.shots = append(l.shots, s)
				l.mu.Unlock()
			})
			l.fired.Add(1)
		}
	}
}

// end stops the load, waits for what is under way and returns all requests by id.
func (l *faultLoad) end() []*shot {
	close(l.stop)
	<-l.done
	for _, c := range l.idle {
		_ = c.Close()
	}
	slices.SortFunc(l.shots, func(a, b *shot) int { return a.id - b.id })
	return l.shots
}

// faultConn is a client's connection. It repeats nothing.
type faultConn struct {
	net.Conn
	br *bufio.Reader
}

func (l *faultLoad) connect() (*faultConn, error) {
	l.mu.Lock()
	if last := len(l.idle) - 1; last >= 0 {
		c := l.idle[last]
		l.idle = l.idle[:last]
		l.mu.Unlock()
		return c, nil
	}
	l.mu.Unlock()
	c, err := net.DialTimeout("tcp", l.addr, loadPatience)
	if err != nil {
		return nil, err
	}
	return &faultConn{c, bufio.NewReader(c)}, nil
}

func (l *faultLoad) send(s *shot) {
	c, err := l.connect()
	if err != nil {
		s.err = err
		return
	}
	keep, err := c.exchange(s)
	s.err = err
	if err != nil || !keep {
		_ = c.Close()
		return
	}
	l.mu.Lock()
	l.idle = append(l.idle, c)
	l.mu.Unlock()
}

// request returns s as it goes over the wire, and the path that services see.
func (s *shot) request() (text, path string) {
	id := strconv.Itoa(s.id)
	method, path, rest := "GET", "/small", ""
	switch s.kind {
	case shotBig:
		path = "/big/" + [...]string{"length", "chunked"}[s.id%2]
	case shotPost:
		method, rest = "POST", "Content-Length: "+strconv.Itoa(len(id))+"\r\n\r\n"+id
	case shotKeyed:
		method, rest = "POST", "Idempotency-Key: "+id+"\r\nContent-Length: "+strconv.Itoa(len(id))+"\r\n\r\n"+id
	}
	if rest == "" {
		rest = "\r\n"
	}
	return method + " /" + s.upstream + path + " HTTP/1.1\r\nHost: fault.test\r\nX-Id: " + id + "\r\n" + rest, path
}

// exchange sends s and reads the answer; an answer that looks complete is compared
// with what the service says.
func (c *faultConn) exchange(s *shot) (keep bool, err error) {
	if err := c.SetDeadline(time.Now().Add(loadPatience)); err != nil {
		return false, err
	}
	text, path := s.request()
	if _, err := io.WriteString(c, text); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	s.status, s.retryAfter = resp.StatusCode, resp.Header.Get("Retry-After")
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		s.body = string(body)
	} else if !bytes.Equal(body, faultBody(strconv.Itoa(s.id), path)) {
		s.status = -1 // worse than any failure, see checkAnswers
		s.body = fmt.Sprintf("%d bytes that look complete", len(body))
	}
	return !resp.Close, nil
}

// quantile returns the q-th part of the latencies of shots.
func quantile(shots []*shot, q float64) time.Duration {
	if len(shots) == 0 {
		return 0
	}
	all := make([]time.Duration, len(shots))
	for i, s := range shots {
		all[i] = s.latency
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1))]
}
