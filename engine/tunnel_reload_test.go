package engine_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// fleet is some WebSocket services with a name each, and how many tunnels each has.
type fleet struct {
	*origins
	open [4]atomic.Int64
}

// fleetNames are the addresses in the documents of reloadedDocument.
var fleetNames = [4]string{"a:1", "b:1", "c:1", "d:1"}

func newFleet(t *testing.T) *fleet {
	f := &fleet{}
	f.origins = newOrigins(t, func(name string) http.Handler {
		n := &f.open[strings.Index("abcd", name[:1])]
		echo := chat(make(chan error, 10000))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			defer n.Add(-1)
			echo(w, r)
		})
	})
	return f
}

// counts returns the tunnels of each service.
func (f *fleet) counts() (n [4]int64) {
	for i := range n {
		n[i] = f.open[i].Load()
	}
	return n
}

func (f *fleet) total() int64 {
	n := f.counts()
	return n[0] + n[1] + n[2] + n[3]
}

// reloadedDocument is the i-th document of a gateway that is reloaded: routes, targets and
// settings of the upstream change in turns. The first is that of every twelfth.
func reloadedDocument(i int) string {
	var b strings.Builder
	algorithm, slots, targets := "least-connections", 1000, 4
	switch i % 4 {
	case 1:
		targets = 2 + i%2
	case 2:
		slots = 100 + i
	case 3:
		algorithm = "round-robin"
	}
	fmt.Fprintf(&b, "_format_version: \"3.0\"\nupstreams:\n- name: u\n  algorithm: %s\n  slots: %d\n  targets:\n", algorithm, slots)
	for _, name := range fleetNames[:targets] {
		fmt.Fprintf(&b, "  - {target: %q, weight: %d}\n", name, 100)
	}
	fmt.Fprintf(&b, "services:\n- name: s\n  host: u\n  read_timeout: %d\n  routes:\n  - {name: all, paths: [/]}\n", 60000+i%3)
	for n := range i % 12 {
		fmt.Fprintf(&b, "  - {name: r%d, paths: [/path/%d/%d]}\n", n, n, i)
	}
	return b.String()
}

// tunnelsOpen and tunnelsReloads are how many tunnels are to survive how many reloads,
// tunnelsInFlight how many messages are under way in each.
var tunnelsOpen, tunnelsReloads = func() (tunnels, reloads int) {
	if underRace {
		return 200, 40
	}
	return 1000, 100
}()

const tunnelsInFlight = 3

// A thousand tunnels with traffic outlive a hundred reloads that change what they were
// opened with. They count as requests in flight all the time, for least-connections.
func TestTunnelsSurviveReloads(t *testing.T) {
	leavesNoGoroutine(t)
	f := newFleet(t)
	g := startLanes(t, reloadedDocument(0), f.origins, downstream.Timeouts{})
	chats := openMany(g, tunnelsOpen)
	quarter := int64(tunnelsOpen / 4)
	if n := f.counts(); n != [4]int64{quarter, quarter, quarter, quarter} {
		t.Errorf("tunnels by target: %v", n)
	}
	stop, rounds := make(chan struct{}), atomic.Int64{}
	var traffic sync.WaitGroup
	const share = 50
	for first := 0; first < len(chats); first += share {
		traffic.Go(func() { echoUntil(t, chats[first:first+share], stop, &rounds) })
	}
	before := residentBytes(t)
	for i := range tunnelsReloads {
		if i == tunnelsReloads/5 {
			before = residentBytes(t) // buffers have grown by then
		}
		if err := g.Apply(lanesDocument(t, reloadedDocument(i+1))); err != nil {
			t.Fatal(err)
		}
		seen := rounds.Load()
		holds(t, "traffic goes on", func() bool { return rounds.Load() > seen || t.Failed() })
	}
	if grown := residentBytes(t) - before; grown > heapGrowthMax && !underRace {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	close(stop)
	traffic.Wait()
	if n := g.metric("sluice_tunnels"); n != fmt.Sprint(tunnelsOpen) {
		t.Errorf("sluice_tunnels is %s", n)
	}
	checkSpread(t, g, f, chats)
}

// openMany opens n tunnels, half of them over TLS.
func openMany(g *lanes, n int) []*websocket.Conn {
	chats := make([]*websocket.Conn, n)
	for i := range chats {
		chats[i] = g.openChat(i%2 == 1, &websocket.DialOptions{})
	}
	return chats
}

// echoUntil sends numbered messages over all of chats, some at once over each, and checks
// that they come back in order.
func echoUntil(t *testing.T, chats []*websocket.Conn, stop <-chan struct{}, rounds *atomic.Int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	message := make([]byte, 64)
	for number := uint64(0); ; number += tunnelsInFlight {
		select {
		case <-stop:
			return
		default:
		}
		for _, c := range chats {
			for i := range uint64(tunnelsInFlight) {
				binary.BigEndian.PutUint64(message, number+i)
				if err := c.Write(ctx, websocket.MessageBinary, message); err != nil {
					t.Errorf("message %d: %v", number+i, err)
					return
				}
			}
		}
		for _, c := range chats {
			for i := range uint64(tunnelsInFlight) {
				_, got, err := c.Read(ctx)
				if err != nil || len(got) != len(message) || binary.BigEndian.Uint64(got) != number+i {
					t.Errorf("for message %d came %x, %v", number+i, got, err)
					return
				}
			}
		}
		rounds.Add(1)
	}
}

// checkSpread checks that after all reloads tunnels still count: what one target has lost
// is what it gets next, and nothing counts when all are closed.
func checkSpread(t *testing.T, g *lanes, f *fleet, chats []*websocket.Conn) {
	t.Helper()
	if err := g.Apply(lanesDocument(t, reloadedDocument(0))); err != nil {
		t.Fatal(err)
	}
	inFlight := func() (n [4]int64) {
		for h := range *g.Node().Targets.Load() {
			n[strings.Index("abcd", h.Target[:1])] = h.InFlight
		}
		return n
	}
	if n := inFlight(); n != f.counts() {
		t.Errorf("in flight: %v, tunnels: %v", n, f.counts())
	}
	quarter := int64(tunnelsOpen / 4)
	closing, kept := chats[:quarter], chats[quarter:]
	for _, c := range closing {
		_ = c.CloseNow()
	}
	holds(t, "the closed tunnels are gone", func() bool { n := inFlight(); return n[0]+n[1]+n[2]+n[3] == 3*quarter })
	more := openMany(g, int(quarter))
	if n := inFlight(); n != [4]int64{quarter, quarter, quarter, quarter} {
		t.Errorf("in flight after some were replaced: %v", n)
	}
	for _, c := range append(more, kept...) {
		_ = c.CloseNow()
	}
	holds(t, "nothing is in flight", func() bool { return inFlight() == [4]int64{} && f.total() == 0 && g.metric("sluice_tunnels") == "0" })
}

// What is silent for too long is ended: for read_timeout, or for stream_timeout of
// request-timeout, whatever its http_timeout.
func TestTunnelIdle(t *testing.T) {
	leavesNoGoroutine(t)
	f := func(settings, plugins string, wantAfter time.Duration) {
		t.Helper()
		ended := make(chan error, 8)
		g := startLanes(t, service("http://s:80", settings)+plugins, served(t, false, chat(ended)), downstream.Timeouts{})
		for i, secure := range []bool{false, true} {
			c := g.openChat(secure, &websocket.DialOptions{})
			talk(t, c)
			if n := g.metric("sluice_tunnels"); n != "1" {
				t.Errorf("sluice_tunnels is %s", n)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			began := time.Now()
			_, _, err := c.Read(ctx)
			cancel()
			if took := time.Since(began); err == nil || took < wantAfter*8/10 || took > wantAfter+2*time.Second {
				t.Errorf("%s%s: %v after %s, want %s", settings, plugins, err, took, wantAfter)
			}
			if err := <-ended; err == nil {
				t.Error("the service was told nothing")
			}
			holds(t, "the tunnel is counted", func() bool {
				return g.metric("sluice_tunnels") == "0" && g.metric(`sluice_tunnels_ended_total{cause="idle"}`) == fmt.Sprint(i+1)
			})
		}
	}
	f("  read_timeout: 400\n", "", 400*time.Millisecond)
	f("  read_timeout: 60000\n", "plugins:\n- {name: request-timeout, config: {http_timeout: 100, stream_timeout: 500}}\n", 500*time.Millisecond)
	f("  read_timeout: 200\n", "plugins:\n- {name: request-timeout, config: {stream_timeout: 600}}\n", 600*time.Millisecond)
}

// The ends of tunnels are counted by their cause, and bytes by their direction.
func TestTunnelCauses(t *testing.T) {
	leavesNoGoroutine(t)
	ended := make(chan error, 8)
	g := startLanes(t, service("http://s:80", ""), served(t, false, chat(ended)), downstream.Timeouts{})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	open := func(secure bool) net.Conn {
		t.Helper()
		c := g.dial(secure)
		_, _ = c.Write([]byte(handshake + "\r\n"))
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 101 {
			t.Fatalf("%v %v", resp, err)
		}
		return c
	}
	f := func(cause string, end func()) {
		t.Helper()
		name := "sluice_tunnels_ended_total{cause=\"" + cause + "\"}"
		before := g.metric(name)
		end()
		holds(t, cause, func() bool { return g.metric(name) != before && g.metric("sluice_tunnels") == "0" })
		<-ended
	}
	for _, secure := range []bool{false, true} {
		c := open(secure)
		f("client_closed", func() { _ = c.Close() })
		c = open(secure)
		under := c
		if secure {
			under = c.(*tls.Conn).NetConn()
		}
		f("client_error", func() {
			_ = under.(*net.TCPConn).SetLinger(0)
			_ = under.Close()
		})
		chat := g.openChat(secure, &websocket.DialOptions{})
		talk(t, chat)
		f("service_closed", func() {
			_ = chat.Write(ctx, websocket.MessageText, []byte("leave me"))
			if _, _, err := chat.Read(ctx); !errors.Is(err, io.EOF) {
				t.Errorf("the client saw %v", err)
			}
			_ = chat.CloseNow()
		})
	}
	if up, down := g.metric(`sluice_tunnel_bytes_total{direction="up"}`), g.metric(`sluice_tunnel_bytes_total{direction="down"}`); up == "0" || down == "0" {
		t.Errorf("%s bytes up, %s down", up, down)
	}
}

// A gateway that shuts down closes its tunnels one after the other, while requests
// finish, and is done before its time is over.
func TestTunnelsDrain(t *testing.T) {
	leavesNoGoroutine(t)
	const n, window = 60, 2 * time.Second
	ended := make(chan error, n)
	finish, started := make(chan struct{}), make(chan struct{})
	echo := chat(ended)
	g := startLanes(t, service("http://s:80", ""), served(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(started)
			<-finish
			return
		}
		echo(w, r)
	}), downstream.Timeouts{})
	var ends []time.Duration
	var mu sync.Mutex
	var clients sync.WaitGroup
	var began time.Time
	for _, c := range openMany(g, n) {
		clients.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			_, _, _ = c.Read(ctx) // until the shutdown
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, time.Since(began))
		})
	}
	answered := make(chan error, 1)
	go func() {
		client, base := g.client(false)
		resp, err := client.Get(base + "/slow")
		if err == nil && resp.StatusCode != 200 {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		answered <- err
	}()
	<-started
	mu.Lock()
	began = time.Now()
	mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), window)
	defer cancel()
	time.AfterFunc(window/2, func() { close(finish) })
	if err := g.Shutdown(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("shutdown: %v after %s", err, time.Since(began))
	}
	if err := <-answered; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	clients.Wait()
	early := 0
	for _, d := range ends {
		if d < window/4 {
			early++
		}
	}
	if early == 0 || early > n/2 || ends[n-1] < window/2 {
		t.Errorf("%d of %d tunnels ended in the first quarter, the last after %s", early, n, ends[n-1])
	}
}

// Tunnels do not hold up a shutdown that has no time left.
func TestTunnelsDrainIsBounded(t *testing.T) {
	leavesNoGoroutine(t)
	for _, patience := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		ended := make(chan error, 100)
		g := startLanes(t, service("http://s:80", ""), served(t, false, chat(ended)), downstream.Timeouts{})
		chats := openMany(g, 50)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		began := time.Now()
		_ = g.Shutdown(ctx) // it may say that it had to cut
		cancel()
		if took := time.Since(began); took > patience+5*time.Second {
			t.Errorf("it took %s", took)
		}
		for range chats {
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Fatalf("with %s left a tunnel goes on after the shutdown", patience)
			}
		}
	}
}

// A client that goes away before the answer to its handshake is written leaves nothing
// behind: neither the service's side nor a request that counts.
func TestTunnelClientGoneBeforeAnswer(t *testing.T) {
	leavesNoGoroutine(t)
	reached, answer, ended := make(chan struct{}), make(chan struct{}), make(chan error, 8)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-answer
		chat(ended)(w, r)
	}))
	t.Cleanup(s.Close)
	g := startLanes(t, "_format_version: \"3.0\"\nupstreams:\n- name: u\n  algorithm: least-connections\n  targets: [{target: \""+s.Listener.Addr().String()+"\"}]\n"+
		"services:\n- {name: s, host: u, routes: [{name: r, paths: [/]}]}\n", nil, downstream.Timeouts{})
	state := func() (h pipeline.TargetHealth) {
		for h = range *g.Node().Targets.Load() {
		}
		return h
	}
	for range 5 {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(handshake + "\r\n"))
		<-reached
		if n := state().InFlight; n != 1 {
			t.Errorf("%d in flight", n)
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		answer <- struct{}{}
		<-ended
		holds(t, "nothing is in flight", func() bool { return state().InFlight == 0 && state().Connections == 0 })
	}
}
