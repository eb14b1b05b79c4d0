package engine_test

import (
	"bufio"
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
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// load sends requests over kept connections until stop is closed and counts
// what was answered and what was not.
type load struct {
	answered, failed atomic.Int64
	firstFailure     atomic.Pointer[string]
	wg               sync.WaitGroup
	stop             chan struct{}
}

func startLoad(addr string, connections int) *load {
	l := &load{stop: make(chan struct{})}
	for range connections {
		l.wg.Go(func() { l.client(addr) })
	}
	return l
}

// client opens connections one after another. A connection that the gateway
// ended with Connection: close is followed by another; one that it refuses is
// not a failure, because the request was never accepted.
func (l *load) client(addr string) {
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		again := l.requests(c)
		_ = c.Close()
		if !again {
			return
		}
	}
}

func (l *load) requests(c net.Conn) (again bool) {
	br := bufio.NewReader(c)
	for first := true; ; first = false {
		select {
		case <-l.stop:
			return false
		default:
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			if !first {
				l.fail(err)
			}
			return first
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			if first && errors.Is(err, io.ErrUnexpectedEOF) {
				return false // never accepted: the listener closed with it in its queue
			}
			l.fail(err)
			return true
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			l.fail(fmt.Errorf("status %d, %w", resp.StatusCode, err))
		} else {
			l.answered.Add(1)
		}
		if resp.Close {
			return true
		}
	}
}

func (l *load) fail(err error) {
	text := err.Error()
	l.firstFailure.CompareAndSwap(nil, &text)
	l.failed.Add(1)
}

func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.check(t)
}

func (l *load) check(t *testing.T) {
	t.Helper()
	if first := l.firstFailure.Load(); first != nil {
		t.Errorf("%d of %d requests failed, the first with: %s", l.failed.Load(), l.failed.Load()+l.answered.Load(), *first)
	}
	if l.answered.Load() == 0 {
		t.Error("no request was answered")
	}
}

// reloads is how many times the document changes under load.
const reloads = 1000

// A thousand reloads under load: no request fails, memory does not grow with
// them, and a document that is refused in between changes nothing.
func TestReloadUnderLoad(t *testing.T) {
	g := start(t, reloadDocument(0), echoes(t))
	l := startLoad(g.addr, 8)
	apply := func(i int) {
		d := document(t, reloadDocument(i))
		if err := g.Apply(d); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		apply(i)
	}
	before := residentBytes(t)
	for i := range reloads {
		apply(i)
		if i%100 == 0 {
			if err := g.Apply(brokenDocument(t)); err == nil {
				t.Fatal("a broken document was applied")
			}
			if st := g.Status(); st.Failed.IsZero() || !strings.Contains(st.Error, "service") {
				t.Errorf("the refusal is not told: %+v", st)
			}
		}
	}
	l.end(t)
	if grown := residentBytes(t) - before; grown > heapGrowthMax {
		t.Errorf("memory grew by %d MiB over %d reloads", grown>>20, reloads)
	}
}

func reloadDocument(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "_format_version: \"3.0\"\nplugins:\n- {name: correlation-id, config: {header_name: X-Id-%d}}\n- {name: prometheus}\nservices:\n- name: s\n  url: http://s:80\n  routes:\n  - {name: all, paths: [/]}\n", i%7)
	for n := range 50 {
		fmt.Fprintf(&b, "  - {name: r%d, paths: [/path/%d/%d]}\n", n, n, i)
	}
	return b.String()
}

// brokenDocument passes the reader and cannot be compiled.
func brokenDocument(t *testing.T) *config.Document {
	d := *document(t, reloadDocument(1))
	broken := *d.Services[0]
	broken.Protocol, broken.ClientCertificate = "https", "nothing"
	d.Services = []*config.Service{&broken}
	return &d
}

// Every request that was accepted is answered when the gateway stops under load.
func TestDrainUnderLoad(t *testing.T) {
	for range 5 {
		d := document(t, everything)
		d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", Port: 0}}
		e, err := engine.Open(d, engine.Options{Plugins: plugin.All, Log: discardLog, Dial: echoes(t).dial})
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := e.Listen()
		if err != nil {
			t.Fatal(err)
		}
		l := startLoad(addrs[0].String(), 16)
		for l.answered.Load() < 200 {
			if l.failed.Load() > 0 {
				break
			}
			time.Sleep(time.Millisecond) // polling: the load has to run first
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		cancel()
		l.wg.Wait() // clients end by themselves: nobody listens any more
		l.check(t)
	}
}

// A service that hangs does not hold up the end: when the time is over, what is
// left is cut, and the error says how much.
func TestDrainIsBounded(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	reached := make(chan struct{}, 8)
	o := rawOrigin(t, func(net.Conn, int) { reached <- struct{}{}; <-stop })
	d := document(t, service("http://s:80", ""))
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", Port: 0}}
	e, err := engine.Open(d, engine.Options{Plugins: plugin.All, Log: discardLog, Dial: o.dial})
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.0\r\nHost: a\r\n\r\n"} {
		c, err := net.Dial("tcp", addrs[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, text)
		<-reached
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	var cut *downstream.CutError
	if err := e.Shutdown(ctx); !errors.As(err, &cut) || cut.Connections != 2 {
		t.Errorf("shutdown: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Files are reloaded when their content changes, by replacement as editors and
// Kubernetes do it, and a broken one leaves the live document alone.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sluice.yaml")
	write := func(text string) {
		t.Helper()
		tmp := filepath.Join(dir, ".new")
		if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, file); err != nil {
			t.Fatal(err)
		}
	}
	write(reloadDocument(0))
	g := start(t, reloadDocument(0), echoes(t))
	loader := engine.NewLoader(g.Engine, []string{file}, func() (*config.Document, error) {
		return config.ReadFiles([]string{file}, nil, config.Options{Catalog: plugin.All})
	})
	quit := make(chan struct{})
	reports := make(chan error, 10)
	if err := loader.Watch(quit, func(err error) { reports <- err }); err != nil {
		t.Fatal(err)
	}
	next := func() error {
		t.Helper()
		select {
		case err := <-reports:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("the change was not noticed")
			return nil
		}
	}
	if !loader.Watching() {
		t.Error("not watching")
	}
	hash := g.Status().Hash
	write(reloadDocument(1))
	if err := next(); err != nil || g.Status().Hash == hash {
		t.Errorf("%v, hash %s", err, g.Status().Hash)
	}
	hash = g.Status().Hash
	write("services: [")
	if err := next(); err == nil || g.Status().Hash != hash || g.Status().Failed.IsZero() {
		t.Errorf("a broken file: %v, %+v", err, g.Status())
	}
	if resp, _ := g.get("/x"); resp.StatusCode != 200 {
		t.Errorf("%d after a broken file", resp.StatusCode)
	}
	write(reloadDocument(2))
	if err := next(); err != nil {
		t.Error(err)
	}
	close(quit)
	for deadline := time.Now().Add(10 * time.Second); loader.Watching(); {
		if time.Now().After(deadline) {
			t.Fatal("still watching after quit")
		}
		time.Sleep(time.Millisecond) // polling
	}
}

// Counters of a plugin whose settings did not change survive a reload.
func TestStateSurvivesReload(t *testing.T) {
	text := func(extra string) string {
		return everything + "plugins:\n- {name: rate-limiting, config: {year: 5, policy: local, limit_by: ip}}\n" + extra
	}
	g := start(t, text(""), echoes(t))
	remaining := func() string {
		t.Helper()
		resp, _ := g.get("/")
		return resp.Header.Get("X-RateLimit-Remaining-Year")
	}
	if got := remaining() + remaining(); got != "43" {
		t.Fatalf("remaining %s, want 4 and 3", got)
	}
	if err := g.Apply(document(t, text("- {name: correlation-id}\n"))); err != nil {
		t.Fatal(err)
	}
	if got := remaining(); got != "2" {
		t.Errorf("after a reload %s remain, want 2", got)
	}
}
