package tunnel

import (
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pipesOpen counts the pipes of this process that are nobody's: in a tunnel or
// kept for one.
func pipesOpen(tb testing.TB) int {
	tb.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

// inUse returns how many pipes tunnels hold at the moment.
func inUse() int {
	pipes.Lock()
	defer pipes.Unlock()
	return pipes.open - pipes.kept
}

func TestSplices(t *testing.T) {
	leaks(t)
	const total = 32 << 20
	x := open(t, false, false, Settings{})
	swap(t, x, total)
	<-x.result
	for _, d := range []*direction{&x.t.up, &x.t.down} {
		t.Logf("%d of %d bytes spliced", d.raw.spliced, total)
		if d.raw.spliced < total*3/4 {
			t.Errorf("%d of %d bytes spliced", d.raw.spliced, total)
		}
	}
}

// TestSpliceAlways sends everything through pipes, also small messages.
func TestSpliceAlways(t *testing.T) {
	leaks(t)
	x := spliced(t)
	x.run()
	for _, s := range []string{"a", "message", strings.Repeat("x", 100<<10)} {
		go send(t, x.client, s)
		expect(t, x.service, s)
		go send(t, x.service, s)
		expect(t, x.client, s)
	}
	sent := x.stuff(t)
	x.client.(*net.TCPConn).CloseWrite()
	if n, err := io.Copy(io.Discard, x.service); err != nil || int(n) != sent {
		t.Errorf("%d bytes of %d, %v", n, sent, err)
	}
	x.service.Close()
	r := x.over(t, ClientClosed)
	if x.t.up.raw.spliced != r.Up || x.t.down.raw.spliced != r.Down {
		t.Errorf("spliced %d and %d of %+v", x.t.up.raw.spliced, x.t.down.raw.spliced, r)
	}
}

// spliced returns a tunnel of plain connections, not running, that splices all.
func spliced(tb testing.TB) *sides {
	client, nearClient := link(tb, false)
	service, nearService := link(tb, false)
	deadline(client, service)
	x := &sides{client: client, service: service, t: New(End{Conn: nearClient}, End{Conn: nearService}, Settings{})}
	for _, d := range []*direction{&x.t.up, &x.t.down} {
		d.raw.splices, d.raw.spliceFrom = true, 0
	}
	return x
}

// TestNoSplice stands for a kernel that refuses to splice, on either side of the
// pipe.
func TestNoSplice(t *testing.T) {
	leaks(t)
	x := spliced(t)
	x.t.up.raw.refuses, x.t.down.raw.refuses = true, true
	x.run()
	swap(t, x, 4<<20)
	<-x.result
	if x.t.up.raw.spliced+x.t.down.raw.spliced > 0 {
		t.Error("spliced")
	}

	// Found out with bytes in the pipe: they are read from it.
	x = spliced(t)
	d := &x.t.up
	if !d.openPipe() {
		t.Fatal("no pipe")
	}
	if n, err := syscall.Write(d.raw.pipe.w, []byte(strings.Repeat("in the pipe", 3000))); n != 33000 || err != nil {
		t.Fatal(n, err)
	}
	d.raw.piped = 33000
	d.raw.refuses = true
	x.run()
	send(t, x.client, "behind")
	expect(t, x.service, strings.Repeat("in the pipe", 3000)+"behind")
	x.t.Close()
	x.over(t, Closed)
}

// TestNoPipe copies where there are too many pipes.
func TestNoPipe(t *testing.T) {
	leaks(t)
	var held []pipe
	for {
		p := acquirePipe()
		if p == (pipe{}) {
			break
		}
		held = append(held, p)
	}
	if len(held) != pipesMax {
		t.Errorf("%d pipes, want %d", len(held), pipesMax)
	}
	refused := PipesRefused()
	x := open(t, false, false, Settings{})
	swap(t, x, 4<<20)
	<-x.result
	if x.t.up.raw.spliced > 0 {
		t.Error("spliced without a pipe")
	}
	if PipesRefused() == refused {
		t.Error("not counted")
	}
	for _, p := range held {
		p.release()
	}
	if pipes.open != pipesKept || pipes.kept != pipesKept {
		t.Errorf("%d pipes are open, %d kept", pipes.open, pipes.kept)
	}
}

// TestPipesDoNotLeak ends tunnels with bytes in their pipes.
func TestPipesDoNotLeak(t *testing.T) {
	leaks(t)
	for range 3 {
		x := spliced(t)
		x.run()
		x.stuff(t)
		if inUse() == 0 {
			t.Error("a tunnel that waits for its target has no pipe")
		}
		x.t.Close()
		x.over(t, Closed)
	}
	if n := inUse(); n != 0 {
		t.Errorf("%d pipes left", n)
	}
	if n := pipesOpen(t); n > 2*pipes.open+10 {
		t.Errorf("%d pipe descriptors for %d pipes", n, pipes.open)
	}
}

// TestIdleHoldsNothing measures tunnels that are silent after they have carried
// bytes.
func TestIdleHoldsNothing(t *testing.T) {
	leaks(t)
	tunnels := 2000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	tunnels = min(tunnels, int(files.Cur)/5) // four connections each
	type quad struct{ client, nearClient, service, nearService net.Conn }
	quads := make([]quad, tunnels)
	for i := range quads {
		q := &quads[i]
		q.client, q.nearClient = link(t, false)
		q.service, q.nearService = link(t, false)
		deadline(q.client, q.service)
	}
	before := memory()
	all := make([]*sides, tunnels)
	for i, q := range quads {
		x := &sides{client: q.client, service: q.service, t: New(End{Conn: q.nearClient}, End{Conn: q.nearService}, Settings{Idle: time.Hour})}
		x.run()
		all[i] = x
	}
	big := strings.Repeat("b", 100<<10)
	for _, x := range all {
		go send(t, x.client, big)
		expect(t, x.service, big)
		send(t, x.service, "hello")
		expect(t, x.client, "hello")
	}
	for end := time.Now().Add(patience); inUse() > 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d pipes are held by silent tunnels", inUse())
		}
	}
	if n := pipesOpen(t); n > 2*pipesKept+10 {
		t.Errorf("%d pipe descriptors", n)
	}
	after := memory()
	per := (after - before) / tunnels
	t.Logf("%d bytes for an idle tunnel, with the stacks of its two goroutines", per)
	if per > 12<<10 && !raceEnabled {
		t.Errorf("%d bytes for an idle tunnel", per)
	}
	for _, x := range all {
		x.t.Close()
	}
	for _, x := range all {
		x.over(t, Closed)
	}
}

// memory returns the bytes in use by the heap and by stacks.
func memory() int {
	runtime.GC()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// TestAllocations passes chunks of all kinds. crypto/tls allocates once a record
// that it reads, here on one side of the tunnel or at the far end.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("not counted: the race detector allocates by itself")
		return
	}
	for _, k := range kinds[:3] {
		for _, size := range []int{64, 4 << 10, 64 << 10} {
			x := open(t, k.clientTLS, k.serviceTLS, Settings{Idle: time.Minute})
			m, got := make([]byte, size), make([]byte, size)
			turn := func() {
				if _, err := x.client.Write(m); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(x.service, got); err != nil {
					t.Fatal(err)
				}
			}
			for range 200 {
				turn()
			}
			allowed := 0.0
			if k.clientTLS || k.serviceTLS {
				allowed = 1 + float64(size/smallBytes)
			}
			if n := testing.AllocsPerRun(1000, turn); n > allowed {
				t.Errorf("%s, %d bytes: %v allocations", k.name, size, n)
			}
			x.t.Close()
			x.over(t, Closed)
		}
	}
}
