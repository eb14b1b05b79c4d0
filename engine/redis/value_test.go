package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// noise returns n bytes of all values, the same for the same n.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	out := make([]byte, n)
	_, _ = r.Read(out)
	return out
}

// patient are settings for values that take their time under the race detector.
func patient(s *redistest.Server) Settings {
	set := settings(s)
	set.ReadTimeout = 10 * time.Second
	return set
}

// mustKeep checks that a value comes back as it was stored.
func mustKeep(t *testing.T, c *Client, key string, value []byte) {
	t.Helper()
	if err := c.Set(context.Background(), key, value, time.Minute); err != nil {
		t.Fatalf("%s: set %d bytes: %v", key, len(value), err)
	}
	got, found, err := c.Get(context.Background(), key, nil)
	if err != nil || !found || !bytes.Equal(got, value) {
		t.Fatalf("%s: got %d bytes, %v, %v; want %d", key, len(got), found, err, len(value))
	}
}

// keepAll stores values of all lengths, and removes them.
func keepAll(t *testing.T, c *Client) {
	t.Helper()
	var keys []string
	// The lengths around powers of ten are where the writing of a length could err.
	for _, n := range []int{0, 1, 2, 9, 10, 11, 99, 100, 101, 999, 1000, 1001, 8191, 8192, 9999, 10000, 64 << 10, 99999, 100000, 999999, 1000000, 1000001, ValueMax} {
		key := fmt.Sprintf("value:{%d}", n)
		mustKeep(t, c, key, noise(n))
		keys = append(keys, key)
	}
	mustKeep(t, c, "lines", []byte("\r\n$3\r\nx\x00\xff\r\n*1\r\n"))
	mustKeep(t, c, "ok", []byte("OK"))
	mustKeep(t, c, "\r\n\x00\xff", []byte("a key of any bytes"))
	if err := c.Delete(context.Background(), keys...); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if value, found, err := c.Get(context.Background(), key, nil); found || err != nil || value != nil {
			t.Errorf("%s is still there: %v", key, err)
		}
	}
}

func TestValues(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, patient(s))
	keepAll(t, c)
	if n := strings.Count(s.Do("client", "list"), "name=sluice"); n > lanesMax+valueLanesMax+2 {
		t.Errorf("%d connections", n)
	}
	var text bytes.Buffer
	c.Expose(&text)
	for _, want := range []string{"direction=\"read\"}", "direction=\"written\"}", "sluice_redis_value_round_trip_seconds_bucket", "kind=\"too_large\"} 0"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestGetAppends(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	f := func(n int, dst []byte) {
		t.Helper()
		value, before := noise(n), slices.Clone(dst[:cap(dst)])
		if err := c.Set(context.Background(), "k", value, time.Minute); err != nil {
			t.Fatal(err)
		}
		want := append(slices.Clone(dst), value...)
		got, found, err := c.Get(context.Background(), "k", dst)
		if err != nil || !found || !bytes.Equal(got, want) {
			t.Errorf("%d bytes to %d of %d: %d, %v, %v", n, len(dst), cap(dst), len(got), found, err)
		}
		if !bytes.Equal(dst, before[:len(dst)]) {
			t.Error("dst has been changed")
		}
		for i := range got {
			got[i] = 0 // it is the caller's
		}
		again, _, err := c.Get(context.Background(), "k", nil)
		if err != nil || !bytes.Equal(again, value) {
			t.Error("a second caller sees what the first one did with his value")
		}
	}
	f(0, nil)
	f(2, nil)
	f(100, []byte("before"))
	f(copiedMax+1, nil)
	f(copiedMax+1, make([]byte, 0, 10))
	f(copiedMax+1, make([]byte, 0, 2*copiedMax))
	f(copiedMax+1, make([]byte, 3, 2*copiedMax))
	f(1<<16, []byte("before"))
	dst := []byte("kept")
	if got, found, err := c.Get(context.Background(), "none", dst); string(got) != "kept" || found || err != nil {
		t.Errorf("%q, %v, %v", got, found, err)
	}
	s.Do("rpush", "list", "a")
	if got, found, err := c.Get(context.Background(), "list", dst); string(got) != "kept" || found || !errors.Is(err, ErrAnswer) || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("%q, %v, %v", got, found, err)
	}
	// Set replaces what it was.
	mustKeep(t, c, "list", []byte("text"))
}

func TestTimeToLive(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	f := func(ttl time.Duration, least, most int) {
		t.Helper()
		if err := c.Set(context.Background(), "k", []byte("v"), ttl); err != nil {
			t.Fatal(err)
		}
		got, _ := strconv.Atoi(s.Do("pttl", "k"))
		if got < least || got > most {
			t.Errorf("%v: %d ms are left", ttl, got)
		}
	}
	f(time.Hour, 3500_000, 3600_000)
	f(90*time.Second+300*time.Millisecond, 80_000, 90_300)
	f(1000*time.Hour, 3599_000_000, 3600_000_000)
	for _, ttl := range []time.Duration{0, -time.Second} {
		if err := c.Set(context.Background(), "other", []byte("v"), ttl); !errors.Is(err, ErrAnswer) {
			t.Errorf("%v: %v", ttl, err)
		}
	}
	if err := c.Set(context.Background(), "short", []byte("v"), time.Nanosecond); err != nil {
		t.Errorf("a time to live of less than a millisecond: %v", err)
	}
	redistest.Eventually(t, "it is gone", func() bool {
		_, found, err := c.Get(context.Background(), "short", nil)
		return !found && err == nil
	})
}

func TestTooLarge(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, patient(s))
	if err := c.Set(context.Background(), "k", make([]byte, ValueMax+1), time.Minute); !errors.Is(err, ErrTooLarge) {
		t.Errorf("set: %v", err)
	}
	if _, err := c.RunStrings(context.Background(), "return {}", []string{"k"}, []string{strings.Repeat("x", ValueMax), "x"}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("script: %v", err)
	}
	s.Do("setrange", "k", strconv.Itoa(ValueMax), "x")
	s.Do("setrange", "huge", strconv.Itoa(64<<20), "x")
	for _, key := range []string{"k", "huge"} {
		if value, found, err := c.Get(context.Background(), key, nil); !errors.Is(err, ErrTooLarge) || found || value != nil {
			t.Errorf("%s: %d bytes, %v, %v", key, len(value), found, err)
		}
	}
	if n := c.meters.errors[faultTooLarge].Get(); n != 4 {
		t.Errorf("counted %d", n)
	}
	mustKeep(t, c, "k", noise(100))
}

// TestRefusedByRedis is of a value that Redis closes the connection over.
func TestRefusedByRedis(t *testing.T) {
	s := redistest.Start(t, "--proto-max-bulk-len", "1mb")
	c := open(t, patient(s))
	mustAdd(t, c, "k", 1, 1)
	for range 3 {
		if err := c.Set(context.Background(), "v", noise(2<<20), time.Minute); err == nil {
			t.Error("stored")
		}
		for range 50 {
			mustAdd(t, c, "k", 0, 1)
		}
	}
	// Those connections on which Redis has said so and hung up are found out by those
	// who use them next.
	redistest.Eventually(t, "values are kept again", func() bool {
		return c.Set(context.Background(), "v", noise(1000), time.Minute) == nil
	})
	mustKeep(t, c, "v", noise(1000))
	if !c.Up() {
		t.Error("a value that Redis does not take made the client away")
	}
}

func TestRunStrings(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	f := func(script string, want ...string) {
		t.Helper()
		for range 2 {
			got, err := c.RunStrings(context.Background(), script, []string{"k"}, []string{"a", "b\x00\xff\r\n"})
			if err != nil || !slices.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("%s: %q, %v; want %q", script, got, err, want)
			}
			s.Do("script", "flush")
		}
	}
	f("return ARGV", "a", "b\x00\xff\r\n")
	f("return {KEYS[1], 7, false, ARGV[1]}", "k", "7", "", "a")
	f("return {}", []string{}...)
	f("return false", nil...)
	f("return {string.rep('x', 100000)}", strings.Repeat("x", 100000))
	for _, script := range []string{"return 1", "return 'text'", "return {{'a'}}", "return redis.error_reply('OWN reason')", "no script"} {
		if got, err := c.RunStrings(context.Background(), script, []string{"k"}, nil); !errors.Is(err, ErrAnswer) || got != nil {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
	if !c.Up() {
		t.Error("away")
	}
}

func TestDeleteMany(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, settings(s))
	var keys []string
	for i := range 5000 {
		keys = append(keys, "k"+strconv.Itoa(i))
	}
	s.Do("eval", "for i = 0, 5009 do redis.call('SET', 'k' .. i, i) end", "0")
	if err := c.Delete(context.Background(), keys...); err != nil {
		t.Fatal(err)
	}
	if n := s.Do("dbsize"); n != "10" {
		t.Errorf("%s keys are left", n)
	}
	if err := errors.Join(c.Delete(context.Background()), c.Delete(context.Background(), "none")); err != nil {
		t.Error(err)
	}
}

func TestGather(t *testing.T) {
	f := func(t0 *track, v verb, bytes, presumed, want int) {
		t.Helper()
		queue := make(chan *call, 200)
		for range cap(queue) {
			queue <- &call{verb: v, values: values{bytes: bytes}}
		}
		batch, held := t0.gather([]*call{<-queue}, queue, presumed)
		if len(batch) != want || held != want*bytes || len(queue) != cap(queue)-want {
			t.Errorf("%d calls, %d bytes; want %d", len(batch), held, want)
		}
	}
	scripts, large := &track{callsMax: batchMax}, &track{callsMax: valuesBatchMax}
	f(scripts, runs, 0, ValueMax, batchMax)
	f(large, gets, 0, presumedMin, valuesBatchMax)
	f(large, gets, 0, presumedFirst, valuesBatchMax)
	f(large, gets, 0, 3<<20, 3)
	f(large, gets, 0, ValueMax, 1)
	f(large, runsStrings, 1<<20, 1<<20, 4)
	f(large, sets, 3<<20, ValueMax, 3)
	f(large, sets, 10, ValueMax, valuesBatchMax)
	f(large, sets, ValueMax, presumedMin, 1)
	f(large, deletes, 0, ValueMax, valuesBatchMax)
}

func TestManyValuesAtOnce(t *testing.T) {
	s := redistest.Start(t)
	c := open(t, patient(s))
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			for i := range 60 {
				key, value := fmt.Sprintf("k%d", g), noise((g*131+i*977)%(100<<10))
				if i == 0 && g < 4 {
					value = noise(4 << 20)
				}
				if err := c.Set(context.Background(), key, value, time.Minute); err != nil {
					t.Error(err)
					return
				}
				var dst []byte
				if i%2 == 0 {
					dst = make([]byte, 0, 128<<10)
				}
				if got, found, err := c.Get(context.Background(), key, dst); err != nil || !found || !bytes.Equal(got, value) {
					t.Errorf("%d bytes of %d, %v, %v", len(got), len(value), found, err)
					return
				}
				if _, found, err := c.Get(context.Background(), key+"none", nil); found || err != nil {
					t.Errorf("found %v, %v", found, err)
				}
				if _, err := add(c, "count", 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustAdd(t, c, "count", 0, 32*60)
	if n := c.values.held.Load(); n != 0 {
		t.Errorf("%d bytes are held for nobody", n)
	}
}
