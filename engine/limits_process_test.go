//go:build linux

package engine_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The suite of limits: gateway processes that count together in a Redis, or alone and
// in files, under a load of a fixed rate that reaches all of them in turn.
//
//	limits_process_test.go   processes and the load
//	limits_check_test.go     what must hold
//	limits_redis_test.go     three gateways, one Redis, and what happens to that
//	limits_test.go           one gateway: reloads, tiers
//	limits_quota_test.go     one gateway that is ended and started again
//
// TestRateLimits builds the gateway once for all of them.
func TestRateLimits(t *testing.T) {
	s := &limitSuite{binary: buildGateway(t), service: newLimitService(t)}
	t.Run("redis", s.redis)
	t.Run("sentinel", s.sentinel)
	t.Run("reload", s.reload)
	t.Run("tiers", s.tiers)
	t.Run("quota", s.quota)
}

// limitSuite is what its tests share.
type limitSuite struct {
	binary  string
	service *limitService
}

// limitService is the service behind the gateways. It counts by path what reaches it.
type limitService struct {
	*httptest.Server
	hits sync.Map // path → *atomic.Int64
}

func newLimitService(t *testing.T) *limitService {
	s := &limitService{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := s.hits.LoadOrStore(r.URL.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		_, _ = io.WriteString(w, "served\n")
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *limitService) got(path string) int {
	if n, ok := s.hits.Load(path); ok {
		return int(n.(*atomic.Int64).Load())
	}
	return 0
}

// gateways are processes with one document.
type gateways []*faultGateway

func (s *limitSuite) fleet(t *testing.T, n int, text string) gateways {
	t.Helper()
	var f gateways
	for range n {
		f = append(f, startGateway(t, s.binary, text))
	}
	return f
}

// sum adds up a metric over the gateways: all series that begin with a name and
// perhaps labels.
func (f gateways) sum(name string) int {
	n := 0
	for _, g := range f {
		n += g.sum(name)
	}
	return n
}

func (g *faultGateway) sum(name string) int {
	g.t.Helper()
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`\S* (\d+)$`).FindAllSubmatch(g.metrics(), -1) {
		v, _ := strconv.Atoi(string(m[1]))
		n += v
	}
	return n
}

// uses reports whether every gateway has its Redis.
func (f gateways) uses() bool { return f.sum("sluice_redis_up") == len(f) }

// end has a signal end the gateway and waits until it is gone.
func (g *faultGateway) end(s syscall.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
	select {
	case <-g.ended:
	case <-time.After(faultPatience):
		g.t.Fatalf("%s does not end the gateway:\n%s", s, g.output())
	}
}

// try is one request of the load and what became of it.
type try struct {
	path           string
	key            string // of the caller
	gateway        int
	planned        time.Time
	sent, answered time.Time
	status         int // 0 without an answer
	header         http.Header
	body           string
	err            error
}

func (y *try) took() time.Duration { return y.answered.Sub(y.sent) }

// remaining is what a header says that is left, -1 without.
func (y *try) remaining(window string) int {
	n, err := strconv.Atoi(y.header.Get("X-Ratelimit-Remaining-" + window))
	if err != nil {
		return -1
	}
	return n
}

// stream sends requests at a fixed rate, whatever becomes of them: to each gateway, with
// each path and with each key in turn.
type stream struct {
	fleet gateways
	paths []string
	keys  []string      // of callers; nil for none
	rate  int           // requests a second
	every time.Duration // requests that are due in this time are sent at once

	stop, done chan struct{}
	fired      atomic.Int64

	mu    sync.Mutex
	tries []*try
	idle  map[int][]*faultConn
}

func (l *stream) start() *stream {
	l.stop, l.done, l.idle = make(chan struct{}), make(chan struct{}), map[int][]*faultConn{}
	if l.every == 0 {
		l.every = 10 * time.Millisecond
	}
	go l.run()
	return l
}

func (l *stream) run() {
	defer close(l.done)
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	began, n := time.Now(), 0
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * float64(l.rate)); n < due; n++ {
			y := &try{planned: began.Add(time.Duration(n) * time.Second / time.Duration(l.rate))}
			y.path = l.paths[n%len(l.paths)]
			y.gateway = n / len(l.paths) % len(l.fleet)
			if l.keys != nil {
				y.key = l.keys[n/len(l.paths)/len(l.fleet)%len(l.keys)]
			}
			under.Go(func() {
				l.send(y)
				l.mu.Lock()
				l.tries = append(l.tries, y)
				l.mu.Unlock()
			})
			l.fired.Add(1)
		}
	}
}

// runs waits until l has sent what it sends in d.
func (l *stream) runs(t *testing.T, d time.Duration) *stream {
	t.Helper()
	n := l.fired.Load() + int64(d.Seconds()*float64(l.rate))
	within(t, d+faultPatience, "the load goes on", func() bool { return l.fired.Load() >= n })
	return l
}

// recent returns the last n tries of a path that are over.
func (l *stream) recent(path string, n int) []*try {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*try
	for _, y := range slices.Backward(l.tries) {
		if len(list) == n {
			break
		}
		if y.path == path {
			list = append(list, y)
		}
	}
	return list
}

// awaitAll waits until the last tries of a path, of which there are some to every
// gateway, all ended with a status.
func (l *stream) awaitAll(t *testing.T, path string, status int) {
	t.Helper()
	n := 8 * len(l.fleet)
	within(t, faultPatience, path+" answers "+strconv.Itoa(status), func() bool {
		list := l.recent(path, n)
		return len(list) == n && !slices.ContainsFunc(list, func(y *try) bool { return y.status != status })
	})
}

// end stops the load, waits for what is under way and returns all requests as they
// were sent.
func (l *stream) end() []*try {
	close(l.stop)
	<-l.done
	for _, list := range l.idle {
		for _, c := range list {
			_ = c.Close()
		}
	}
	slices.SortFunc(l.tries, func(a, b *try) int { return a.sent.Compare(b.sent) })
	return l.tries
}

func (l *stream) send(y *try) {
	y.sent = time.Now()
	defer func() { y.answered = time.Now() }()
	l.mu.Lock()
	var c *faultConn
	if list := l.idle[y.gateway]; len(list) > 0 {
		c, l.idle[y.gateway] = list[len(list)-1], list[:len(list)-1]
	}
	l.mu.Unlock()
	if c == nil {
		raw, err := net.DialTimeout("tcp", l.fleet[y.gateway].proxy, loadPatience)
		if err != nil {
			y.err = err
			return
		}
		c = &faultConn{raw, bufio.NewReader(raw)}
	}
	keep, err := c.try(y)
	if y.err = err; err != nil || !keep {
		_ = c.Close()
		return
	}
	l.mu.Lock()
	l.idle[y.gateway] = append(l.idle[y.gateway], c)
	l.mu.Unlock()
}

// try sends y and reads the answer.
func (c *faultConn) try(y *try) (keep bool, err error) {
	if err := c.SetDeadline(time.Now().Add(loadPatience)); err != nil {
		return false, err
	}
	text := "GET " + y.path + " HTTP/1.1\r\nHost: limit.test\r\n"
	if y.key != "" {
		text += "apikey: " + y.key + "\r\n"
	}
	if _, err := io.WriteString(c, text+"\r\n"); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	y.status, y.header, y.body = resp.StatusCode, resp.Header, strings.TrimSpace(string(body))
	return !resp.Close, nil
}
