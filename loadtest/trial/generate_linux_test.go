package trial

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stub serves handler on loopback and returns its address.
func stub(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// loadOf is a load of one request that expects 200.
func loadOf(address string) *load {
	requests := []Request{{Method: "GET", Path: "/", Host: "localhost", Weight: 1}}
	return &load{address: address, shots: newShots(requests, 200), order: orderOf(requests), connections: 4, duration: 300 * time.Millisecond, patience: time.Minute}
}

func generated(t *testing.T, l *load) *outcome {
	t.Helper()
	o, err := generate(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// accounted holds a run at a rate to its plan: nothing is lost from the count.
func accounted(t *testing.T, l *load, o *outcome) {
	t.Helper()
	want := uint64(l.perSecond * l.duration.Seconds())
	if o.planned != want || o.answered+o.failed != want || o.latency.Total() != want {
		t.Errorf("planned %d of %d, answered %d, failed %d, latencies %d", o.planned, want, o.answered, o.failed, o.latency.Total())
	}
}

// TestStallIsCharged has a service stall once for 200 ms: whoever was due meanwhile
// waited, although few of them were ever sent while it lasted.
func TestStallIsCharged(t *testing.T) {
	const stall = 200 * time.Millisecond
	var n atomic.Int64
	var gate sync.RWMutex
	l := loadOf(stub(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 100 {
			gate.Lock()
			<-time.After(stall)
			gate.Unlock()
		}
		gate.RLock()
		defer gate.RUnlock()
		_, _ = io.WriteString(w, "hello")
	}))
	l.perSecond, l.duration = 500, time.Second
	o := generated(t, l)
	accounted(t, l, o)
	if o.failed > 0 {
		t.Errorf("failures: %s", o.explain())
	}
	for _, q := range []float64{0.999, 1} {
		if got := o.latency.Quantile(q); got < stall-10*time.Millisecond {
			t.Errorf("quantile %g is %s: the stall of %s does not show", q, got, stall)
		}
	}
	// 100 requests of 500 were due in the stall, and half of them for 100 ms and more.
	// A generator that waits for answers would have seen 4.
	if got := o.latency.Quantile(0.92); got < 80*time.Millisecond {
		t.Errorf("8%% of the requests waited for %s and more, expected 80ms at least", got)
	}
	if o.late == 0 || o.waited == 0 || o.lateMax < 100*time.Millisecond {
		t.Errorf("late %d, for want of a connection %d, up to %s", o.late, o.waited, o.lateMax)
	}
}

// TestRateAboveCapacity plans more than the service can do.
func TestRateAboveCapacity(t *testing.T) {
	l := loadOf(stub(t, func(http.ResponseWriter, *http.Request) { <-time.After(20 * time.Millisecond) }))
	l.perSecond, l.connections = 1000, 2 // which can do 100 a second
	o := generated(t, l)
	accounted(t, l, o)
	if o.failed > 0 || o.late < 150 || o.latency.Max() < 500*time.Millisecond {
		t.Errorf("failed %d, late %d, longest %s", o.failed, o.late, o.latency.Max())
	}
}

// TestUnansweredIsAccounted has a service that never answers.
func TestUnansweredIsAccounted(t *testing.T) {
	ended := make(chan struct{})
	l := loadOf(stub(t, func(http.ResponseWriter, *http.Request) { <-ended }))
	t.Cleanup(func() { close(ended) })
	l.perSecond, l.patience = 100, 500*time.Millisecond
	o := generated(t, l)
	accounted(t, l, o)
	if o.failures[noAnswer] == 0 || o.failures[neverSent] == 0 || !strings.Contains(o.explain(), "no answer in time") {
		t.Errorf("%s", o.explain())
	}
	if o.latency.Quantile(0.5) < l.patience/2 {
		t.Errorf("what never came counts as %s", o.latency.Quantile(0.5))
	}
}

func TestClosedLoop(t *testing.T) {
	var sizes sync.Map
	l := loadOf(stub(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sizes.Store(r.Method+string(b)+r.Header.Get("X-Key")+r.Host, true)
		w.(http.Flusher).Flush() // in chunks
		_, _ = io.WriteString(w, strings.Repeat("hello ", 20000))
	}))
	requests := []Request{
		{Method: "POST", Path: "/", Host: "a.example", Body: "four", Headers: map[string]string{"X-Key": "k"}, Weight: 3},
		{Method: "HEAD", Path: "/", Host: "b.example", Weight: 1},
	}
	l.shots, l.order = newShots(requests, 200), orderOf(requests)
	if err := try(t.Context(), l.address, l.shots); err != nil {
		t.Fatal(err)
	}
	if countSteady(l.shots) != 2 {
		t.Error("equal bodies are said to differ")
	}
	marks := 0
	l.mark, l.warmUp = func() { marks++ }, 50*time.Millisecond
	o := generated(t, l)
	if o.answered < 4 || o.failed > 0 || marks != 2 || o.perSecond() < 4 || o.own <= 0 || o.elapsed < l.duration {
		t.Errorf("%d answered, %d marks, own %s in %s; %s", o.answered, marks, o.own, o.elapsed, o.explain())
	}
	for _, want := range []string{"POSTfourka.example", "HEADb.example"} {
		if _, ok := sizes.Load(want); !ok {
			t.Errorf("the service has not seen %s", want)
		}
	}
}

func TestFailuresAreTold(t *testing.T) {
	f := func(what string, kind failure, want string, handler http.HandlerFunc) {
		t.Helper()
		var n atomic.Int64
		l := loadOf(stub(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) <= 2 { // both of try
				_, _ = io.WriteString(w, "hello")
				return
			}
			handler(w, r)
		}))
		l.perSecond = 200
		if err := try(t.Context(), l.address, l.shots); err != nil {
			t.Fatal(err)
		}
		o := generated(t, l)
		accounted(t, l, o)
		if o.failures[kind] == 0 || !strings.Contains(o.explain(), want) {
			t.Errorf("%s: %q", what, o.explain())
		}
	}
	f("status", wrongStatus, `expected status 200, got 401 with the body "no key"; give the request the headers`, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(401)
		_, _ = io.WriteString(w, "no key")
	})
	f("body", wrongBody, "the body differs", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "jello") })
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(c, text)
				_ = c.Close()
			}
		}
	}
	f("broken", brokenConnection, "closed before the answer was complete", raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel"))
	f("malformed", malformedAnswer, "not the start of an HTTP/1 message", raw("SSH-2.0-OpenSSH\r\n\r\n"))
	f("too much", malformedAnswer, "5 bytes after the end", raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellohello"))
}

// TestConnectionsEnd has answers that end their connection, in both ways.
func TestConnectionsEnd(t *testing.T) {
	var n atomic.Int64
	l := loadOf(stub(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%2 == 0 {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "hello")
			return
		}
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhello")
			_ = c.Close()
		}
	}))
	l.perSecond = 200
	o := generated(t, l)
	accounted(t, l, o)
	if o.failed > 0 {
		t.Error(o.explain())
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	if _, err := generate(t.Context(), loadOf(address)); err == nil || !strings.Contains(err.Error(), "in a row failed") {
		t.Errorf("%v", err)
	}
	if _, err := generate(t.Context(), loadOf("192.0.2.1:80")); err == nil {
		t.Error("an address that is not on loopback was taken")
	}
}

func TestGeneratorStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	l := loadOf(stub(t, func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 10 {
			cancel()
		}
	}))
	l.duration = time.Hour
	if _, err := generate(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestOrderFollowsWeights(t *testing.T) {
	order := orderOf([]Request{{Weight: 1}, {Weight: 5}, {Weight: 2}})
	var counts [3]int
	for _, i := range order {
		counts[i]++
	}
	if counts != [3]int{1, 5, 2} {
		t.Errorf("%v", counts)
	}
}
