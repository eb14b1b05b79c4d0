package redis

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// slack is what a busy machine may add to a time: less than any wait that a fault
// would cause, since those repeat.
const slack = 800 * time.Millisecond

// increment counts and answers with the count.
const increment = "return {redis.call('INCRBY', KEYS[1], ARGV[1])}"

func settings(s *redistest.Server) Settings {
	return Settings{Host: "127.0.0.1", Port: s.Port, ReadTimeout: 500 * time.Millisecond, ConnectTimeout: 500 * time.Millisecond, SendTimeout: 500 * time.Millisecond}
}

// open opens a client that is closed at the end, and checks that closing leaves
// nothing behind.
func open(t *testing.T, s Settings) *Client {
	t.Helper()
	c, err := Open(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		noneLeft(t)
	})
	return c
}

// noneLeft waits until no goroutine of a client or of the library runs.
func noneLeft(t *testing.T) {
	t.Helper()
	stack := make([]byte, 1<<20)
	redistest.Eventually(t, "goroutines of the client end", func() bool {
		text := string(stack[:runtime.Stack(stack, true)])
		return !strings.Contains(text, "rueidis") && !strings.Contains(text, "redis.(*Client)") && !strings.Contains(text, "redis.(*link)")
	})
}

func add(c *Client, key string, n int) (int64, error) {
	out, err := c.Run(context.Background(), increment, []string{key}, []string{strconv.Itoa(n)})
	if err != nil {
		return 0, err
	}
	return out[0], nil
}

func mustAdd(t *testing.T, c *Client, key string, n int, want int64) {
	t.Helper()
	if got, err := add(c, key, n); err != nil || got != want {
		t.Fatalf("%s: %d, %v; want %d", key, got, err, want)
	}
}

func TestRunCounts(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	mustAdd(t, c, "k", 5, 5)
	mustAdd(t, c, "k", 2, 7)
	if got := s.Do("get", "k"); got != "7" {
		t.Errorf("redis has %q", got)
	}
	if got := s.Do("client", "list"); !strings.Contains(got, "name=sluice") {
		t.Errorf("clients:\n%s", got)
	}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 200 {
				if _, err := add(c, "many", 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	mustAdd(t, c, "many", 0, 64*200)
	if n := strings.Count(s.Do("client", "list"), "name=sluice"); n > lanesMax+1 {
		t.Errorf("%d connections", n)
	}
}

func TestRunMany(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	keys, args := make([][]string, 300), make([][]string, 300)
	for i := range keys {
		keys[i], args[i] = []string{"k" + strconv.Itoa(i%100)}, []string{"1"}
	}
	outs, errs := c.RunMany(context.Background(), increment, keys, args)
	sum := int64(0)
	for i := range outs {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		sum += outs[i][0]
	}
	if sum != 100*(1+2+3) {
		t.Errorf("sum %d", sum)
	}
}

func TestScriptsForgotten(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	mustAdd(t, c, "k", 1, 1)
	s.Do("script", "flush")
	mustAdd(t, c, "k", 1, 2)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				if _, err := add(c, "k", 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		s.Do("script", "flush")
	}
	wg.Wait()
	mustAdd(t, c, "k", 0, 1002)
	if c.meters.loads.Get() < 2 {
		t.Error("no script was loaded again")
	}
}

func TestAwayAtOpen(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	start := time.Now()
	c := open(t, settings(s))
	if d := time.Since(start); d > slack {
		t.Errorf("opening took %v", d)
	}
	for range 1000 {
		if _, err := add(c, "k", 1); !errors.Is(err, ErrAway) {
			t.Fatalf("error %v", err)
		}
	}
	if d := time.Since(start); d > slack {
		t.Errorf("1000 calls took %v", d)
	}
	if _, _, report := c.Report(); report.(State).Up != 0 || !strings.Contains(report.(State).Error, "connection refused") {
		t.Errorf("report %+v", report)
	}
	s.Restart()
	redistest.Eventually(t, "the client finds the server", c.Up)
	mustAdd(t, c, "k", 1, 1)
}

func TestStoppedAndContinued(t *testing.T) {
	s := redistest.Start(t)
	set := settings(s)
	set.ReadTimeout = 200 * time.Millisecond
	c := open(t, set)
	mustAdd(t, c, "k", 1, 1)
	s.Stop()
	var slowest atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			start := time.Now()
			_, err := add(c, "k", 1)
			if !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrAway) {
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
	wg.Wait()
	if d := time.Duration(slowest.Load()); d > 200*time.Millisecond+slack {
		t.Errorf("a call waited for %v, the timeout is 200 ms", d)
	}
	redistest.Eventually(t, "the client knows", func() bool { return !c.Up() })
	start := time.Now()
	for range 1000 {
		if _, err := add(c, "k", 1); !errors.Is(err, ErrAway) {
			t.Fatalf("error %v", err)
		}
	}
	if d := time.Since(start); d > slack {
		t.Errorf("1000 calls while away took %v", d)
	}
	s.Continue()
	redistest.Eventually(t, "the client is back", func() bool {
		_, err := add(c, "after", 1)
		return err == nil
	})
}

func TestShortDeadlineLeavesTheConnection(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	mustAdd(t, c, "k", 1, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	if _, err := c.Run(ctx, increment, []string{"k"}, []string{"1"}); !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if _, err := c.Run(ctx, increment, []string{"k"}, []string{"1"}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := add(c, "other", 1); err != nil || !c.Up() {
		t.Errorf("a caller who left took the connection with him: %v", err)
	}
}

func TestKilledAndRestarted(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	mustAdd(t, c, "k", 3, 3)
	stop := make(chan struct{})
	var ok, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				start := time.Now()
				if _, err := add(c, "load", 1); err == nil {
					ok.Add(1)
				} else {
					failed.Add(1)
				}
				if d := time.Since(start); d > 500*time.Millisecond+slack {
					t.Errorf("a call took %v", d)
				}
			}
		})
	}
	for range 3 {
		s.Kill()
		redistest.Eventually(t, "the client knows", func() bool { return !c.Up() })
		s.Restart()
		n := ok.Load()
		redistest.Eventually(t, "calls succeed again", func() bool { return ok.Load() > n+100 })
	}
	close(stop)
	wg.Wait()
	mustAdd(t, c, "k", 1, 1) // restarted empty
	if failed.Load() == 0 {
		t.Error("nothing failed while the server was gone")
	}
}

func TestFullQueue(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	mustAdd(t, c, "k", 1, 1)
	s.Stop()
	var full atomic.Int64
	var wg sync.WaitGroup
	for range 4 * queueMax {
		wg.Go(func() {
			if _, err := add(c, "k", 1); errors.Is(err, ErrFull) {
				full.Add(1)
			}
		})
	}
	wg.Wait()
	if full.Load() == 0 {
		t.Error("no call was refused")
	}
	s.Continue()
}

func TestWrongPassword(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "secret")
	var log lockedBuffer
	set := settings(s)
	set.Password = "wrong"
	c, err := Open(set, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := add(c, "k", 1); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("error %v", err)
	}
	redistest.Eventually(t, "it is logged", func() bool { return strings.Contains(log.String(), "WRONGPASS") })
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "password=wrong") {
		t.Errorf("log %s", log.String())
	}
	set.Password = "secret"
	mustAdd(t, open(t, set), "k", 1, 1)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAccessControl(t *testing.T) {
	s := redistest.Start(t)
	s.Do("acl", "setuser", "gate", "on", ">pw", "~sluice:*", "+eval", "+evalsha", "+incrby", "+hello")
	set := settings(s)
	set.Username, set.Password = "gate", "pw"
	c := open(t, set)
	mustAdd(t, c, "sluice:k", 1, 1)
	if _, err := add(c, "other", 1); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrAnswer) {
		t.Errorf("a key out of reach: %v", err)
	}
	mustAdd(t, c, "sluice:k", 1, 2)
}

func TestDatabase(t *testing.T) {
	s := redistest.Start(t)
	set := settings(s)
	set.Database = 3
	mustAdd(t, open(t, set), "k", 4, 4)
	if got := s.Do("-n", "3", "get", "k"); got != "4" {
		t.Errorf("database 3 has %q", got)
	}
}

func TestErrorsInAnswers(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	s.Do("rpush", "list", "a")
	f := func(script, key, want string) {
		t.Helper()
		_, err := c.Run(context.Background(), script, []string{key}, []string{"1"})
		if !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	f(increment, "list", "WRONGTYPE")
	f("this is no script", "k", "Error compiling script")
	f("return redis.call('nothing')", "k", "Unknown ") // "Redis command", or Valkey's words
	f("return 'text'", "k", "")
	mustAdd(t, c, "k", 1, 1)
	if !c.Up() {
		t.Error("an error in an answer made the client away")
	}
	var text bytes.Buffer
	c.Expose(&text)
	for _, want := range []string{"sluice_redis_up{redis=\"" + s.Addr() + "\"} 1", "kind=\"answer\"} 4", "sluice_redis_calls_total{redis=\"" + s.Addr() + "\"} 5", "sluice_redis_round_trip_seconds_bucket"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("metrics lack %s:\n%s", want, text.String())
		}
	}
}

func TestClosedClient(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	mustAdd(t, c, "k", 1, 1)
	s.Stop()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := add(c, "k", 1); err == nil {
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
	if _, err := add(c, "k", 1); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
	s.Continue()
}

// TestSilentServer is one that accepts connections and says nothing.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	set := Settings{Port: l.Addr().(*net.TCPAddr).Port, ReadTimeout: 150 * time.Millisecond, ConnectTimeout: 300 * time.Millisecond}
	c := open(t, set)
	start := time.Now()
	if _, err := add(c, "k", 1); !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(start); d > 150*time.Millisecond+slack {
		t.Errorf("the first call took %v", d)
	}
}

func TestEvery(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	var calls atomic.Int64
	f := func(ctx context.Context) error {
		calls.Add(1)
		_, err := c.Run(ctx, increment, []string{"k"}, []string{"1"})
		return err
	}
	stop := c.Every(time.Millisecond, f)
	redistest.Eventually(t, "it is called", func() bool { return calls.Load() > 2 })
	stop()
	stop()
	n := calls.Load()
	mustAdd(t, c, "k", 0, n)
	c.Every(time.Hour, f)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := s.Do("get", "k"); got != strconv.FormatInt(n+1, 10) {
		t.Errorf("redis has %s, want the last call in it: %d", got, n+1)
	}
}
