package redis

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// TestValuesStoppedAndContinued is of a client that only keeps values: it finds out by
// itself that Redis is away.
func TestValuesStoppedAndContinued(t *testing.T) {
	s := redistest.Start(t)
	set := settings(s)
	set.ReadTimeout = 300 * time.Millisecond
	c := open(t, set)
	mustKeep(t, c, "k", noise(1<<20))
	s.Stop()
	var slowest atomic.Int64
	var wg sync.WaitGroup
	timed := func(f func() error) {
		wg.Go(func() {
			start := time.Now()
			if err := f(); !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrAway) && !errors.Is(err, ErrFull) {
				t.Errorf("error %v", err)
			}
			for d := int64(time.Since(start)); ; {
				old := slowest.Load()
				if d <= old || slowest.CompareAndSwap(old, d) {
					break
				}
			}
		})
	}
	value := noise(ValueMax)
	for range 20 {
		timed(func() error { _, _, err := c.Get(context.Background(), "k", nil); return err })
		timed(func() error { return c.Set(context.Background(), "other", value, time.Minute) })
		timed(func() error { return c.Delete(context.Background(), "a", "b") })
		timed(func() error { _, err := c.RunStrings(context.Background(), "return {}", nil, nil); return err })
	}
	wg.Wait()
	if d := time.Duration(slowest.Load()); d > set.ReadTimeout+slack {
		t.Errorf("a call waited for %v, the timeout is %v", d, set.ReadTimeout)
	}
	redistest.Eventually(t, "the client knows", func() bool { return !c.Up() })
	start := time.Now()
	for range 1000 {
		if _, _, err := c.Get(context.Background(), "k", nil); !errors.Is(err, ErrAway) {
			t.Fatalf("error %v", err)
		}
	}
	if d := time.Since(start); d > slack {
		t.Errorf("1000 calls while away took %v", d)
	}
	s.Continue()
	redistest.Eventually(t, "the client is back", func() bool {
		got, found, err := c.Get(context.Background(), "k", nil)
		return err == nil && found && len(got) == 1<<20
	})
	redistest.Eventually(t, "nothing is held", func() bool { return c.values.held.Load() == 0 })
}

func TestValuesKilledAndRestarted(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, patient(s))
	mustKeep(t, c, "k", noise(100))
	s.Kill()
	redistest.Eventually(t, "calls fail at once", func() bool {
		_, _, err := c.Get(context.Background(), "k", nil)
		return errors.Is(err, ErrAway) && !c.Up()
	})
	for _, err := range []error{c.Set(context.Background(), "k", nil, time.Minute), c.Delete(context.Background(), "k", "l")} {
		if !errors.Is(err, ErrAway) {
			t.Errorf("error %v", err)
		}
	}
	s.Restart()
	redistest.Eventually(t, "the client is back", func() bool {
		_, found, err := c.Get(context.Background(), "k", nil)
		return err == nil && !found
	})
	mustKeep(t, c, "k", noise(1000))
}

func TestHeldBytes(t *testing.T) {
	s := redistest.Start(t)
	set := settings(s)
	set.ReadTimeout = 2 * time.Second
	c := open(t, set)
	mustKeep(t, c, "k", nil)
	s.Stop()
	value := noise(ValueMax)
	var full atomic.Int64
	var wg sync.WaitGroup
	for range 2 * heldMax / ValueMax {
		wg.Go(func() {
			if err := c.Set(context.Background(), "k", value, time.Minute); errors.Is(err, ErrFull) {
				full.Add(1)
			} else if err == nil {
				t.Error("stored by a stopped server")
			}
		})
	}
	wg.Wait()
	if n := full.Load(); n < heldMax/ValueMax {
		t.Errorf("%d calls were refused", n)
	}
	s.Continue()
}

func TestValuesClosedClient(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, patient(s))
	mustKeep(t, c, "k", noise(10))
	s.Stop()
	var wg sync.WaitGroup
	value := noise(ValueMax)
	for range 20 {
		wg.Go(func() {
			if _, _, err := c.Get(context.Background(), "k", nil); err == nil {
				t.Error("answered by a stopped server")
			}
		})
		wg.Go(func() {
			if err := c.Set(context.Background(), "k", value, time.Minute); err == nil {
				t.Error("answered by a stopped server")
			}
		})
	}
	start := time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if d := time.Since(start); d > slack {
		t.Errorf("closing took %v", d)
	}
	if err := c.Delete(context.Background(), "a", "b"); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
	s.Continue()
}

// narrow is a way to a server on which answers stand still after so many bytes, until
// it is widened.
type narrow struct {
	net.Listener
	wide chan struct{}
	done chan struct{}
	full atomic.Int64 // connections that stand still
	wg   sync.WaitGroup
}

func openNarrow(t *testing.T, to string, bytesMax int) *narrow {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &narrow{Listener: l, wide: make(chan struct{}), done: make(chan struct{})}
	w.wg.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			w.wg.Go(func() { w.carry(server, from, -1) })
			w.wg.Go(func() { w.carry(from, server, bytesMax) })
			w.wg.Go(func() {
				<-w.done
				from.Close()
				server.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(w.done)
		w.wg.Wait()
	})
	return w
}

func (w *narrow) carry(to, from net.Conn, bytesMax int) {
	defer to.Close()
	buffer, n := make([]byte, 16<<10), 0
	for {
		m, err := from.Read(buffer)
		if n += m; bytesMax >= 0 && n > bytesMax {
			w.full.Add(1)
			select {
			case <-w.wide:
			case <-w.done:
				return
			}
			bytesMax = -1
		}
		if _, e := to.Write(buffer[:m]); err != nil || e != nil {
			return
		}
	}
}

// TestSlowValueHoldsUpNoScript has all lanes of values stand still in the middle of
// one: scripts are answered in the meantime, and the client is not away when the
// value's time is over.
func TestSlowValueHoldsUpNoScript(t *testing.T) {
	for _, connections := range []int{0, 1} {
		t.Run(strconv.Itoa(connections), func(t *testing.T) { testSlowValue(t, connections) })
	}
}

func testSlowValue(t *testing.T, connections int) {
	s := redistest.Start(t)
	way := openNarrow(t, s.Addr(), 1<<20)
	set := settings(s)
	set.Port = way.Addr().(*net.TCPAddr).Port
	set.ReadTimeout, set.ConnectionsMax = 2*time.Second, connections
	c := open(t, set)
	value := noise(ValueMax)
	if err := c.Set(context.Background(), "k", value, time.Minute); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, c, "n", 1, 1)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if _, _, err := c.Get(context.Background(), "k", nil); !errors.Is(err, ErrTimeout) {
				t.Errorf("error %v", err)
			}
		})
	}
	redistest.Eventually(t, "every lane of values stands still", func() bool { return way.full.Load() >= int64(c.settings.valueLanes()) })
	under := make(chan struct{})
	go func() {
		wg.Wait()
		close(under)
	}()
	n, slowest := int64(1), time.Duration(0)
	for over := false; !over; {
		select {
		case <-under:
			over = true
		default:
		}
		start := time.Now()
		n++
		mustAdd(t, c, "n", 1, n)
		slowest = max(slowest, time.Since(start))
	}
	t.Logf("%d calls in the meantime, the slowest took %v", n, slowest)
	if slowest > slack || n < 100 {
		t.Errorf("%d calls, the slowest took %v", n, slowest)
	}
	if !c.Up() || c.meters.errors[faultAway].Get() != 0 {
		t.Error("a slow value made the client away")
	}
	close(way.wide)
	redistest.Eventually(t, "the value arrives", func() bool {
		got, found, err := c.Get(context.Background(), "k", nil)
		return err == nil && found && bytes.Equal(got, value)
	})
	mustAdd(t, c, "n", 1, n+1)
}
