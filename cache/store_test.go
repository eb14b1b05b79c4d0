package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSetRefuses(t *testing.T) {
	s := mustOpen(t, Config{Bytes: 1 << 20, ObjectMax: 100 << 10}, 0)
	f := func(p Put, body int, want error) {
		t.Helper()
		if err := s.Set(&p, make([]byte, body), 0); err != want {
			t.Errorf("Set: %v, want %v", err, want)
		}
		w, err := s.Create(&p, int64(body), 0)
		if err == nil {
			if _, err = w.Write(make([]byte, body)); err == nil {
				err = w.Commit(0)
			}
			w.Abort()
		}
		if err != want {
			t.Errorf("Create: %v, want %v", err, want)
		}
	}
	key := []byte("key")
	f(Put{Key: key}, 0, nil)
	f(Put{}, 0, nil)
	f(Put{Key: key}, 100<<10, nil)
	f(Put{Key: key}, 100<<10+1, ErrTooLarge)
	f(Put{Key: key, Head: make([]byte, 1)}, 100<<10, ErrTooLarge)
	f(Put{Key: key, Head: make([]byte, 20<<10)}, 80<<10, nil)
	f(Put{Key: key, Head: make([]byte, 32<<10)}, 0, ErrTooLarge) // does not fit a segment of a store so small
	f(Put{Key: make([]byte, 8<<10)}, 0, nil)
	f(Put{Key: make([]byte, 8<<10+1)}, 0, ErrTooLarge)
	f(Put{Key: key, Labels: make([]uint32, LabelsMax)}, 0, nil)
	f(Put{Key: key, Labels: make([]uint32, LabelsMax+1)}, 0, ErrTooLarge)
	born := s.Seq()
	s.Purge(Rule{Groups: [][]uint32{{5}}})
	f(Put{Key: key, Labels: []uint32{5}, Born: born}, 0, ErrPurged)
	f(Put{Key: key, Labels: []uint32{6}, Born: born}, 0, nil)
	f(Put{Key: key, Labels: []uint32{5}, Born: s.Seq()}, 0, nil)
	st := s.Stats()
	if st.TooLarge != 10 || st.BornPurged != 2 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(0); err != nil {
		t.Fatal(err)
	}
	f(Put{Key: key}, 0, ErrClosed)
	f(Put{Key: key}, 100<<10, ErrClosed)
}

func TestExpiry(t *testing.T) {
	s := mustOpen(t, Config{Bytes: 1 << 20}, 0)
	defer s.Close(0)
	f := func(expires, now int64, want bool) {
		t.Helper()
		p := Put{Key: []byte("key"), Expires: expires}
		if err := s.Set(&p, nil, 0); err != nil {
			t.Fatal(err)
		}
		var v View
		if got := s.Get(p.Key, now, &v); got != want || got && v.Expires != expires {
			t.Errorf("expires %d, at %d: %v, %d", expires, now, got, v.Expires)
		}
		v.Close()
	}
	f(10, 9, true)
	f(10, 10, false)
	f(10, math.MaxInt64, false)
	f(0, 0, false)
	f(-5, 0, false)
	f(math.MaxInt64, 1<<46, true)
	f(math.MaxInt64, math.MaxInt64, true)
}

func TestWriterSizes(t *testing.T) {
	s := mustOpen(t, Config{Bytes: 8 << 20, ObjectMax: 1 << 20}, 0)
	defer s.Close(0)
	f := func(announced int64, size, piece int, want error) {
		t.Helper()
		p := Put{Key: []byte("key"), Head: []byte("head"), Expires: 9}
		s.Delete(p.Key)
		w, err := s.Create(&p, announced, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := proof("key", 1, size)
		for rest := b; len(rest) > 0; {
			n, err := w.Write(rest[:min(piece, len(rest))])
			if err != nil {
				if err != want || n != 0 {
					t.Errorf("write: %d, %v, want %v", n, err, want)
				}
				w.Abort()
				return
			}
			rest = rest[n:]
		}
		var v View
		if s.Get(p.Key, 0, &v) {
			t.Error("found before it was complete")
		}
		if err := w.Commit(0); err != want {
			t.Errorf("commit: %v, want %v", err, want)
		}
		if s.Get(p.Key, 0, &v) != (want == nil) || want == nil && !bytes.Equal(body(t, &v), b) {
			t.Errorf("announced %d, size %d, pieces of %d: wrong", announced, size, piece)
		}
		v.Close()
	}
	for _, size := range []int{24, 1000, 32<<10 - 1, 32 << 10, 32<<10 + 1, 128 << 10, 128<<10 - segmentHeader, 200 << 10, 1000 << 10} {
		f(-1, size, 1<<20, nil)
		f(-1, size, 10_001, nil)
		f(int64(size), size, 32<<10, nil)
	}
	f(100, 99, 10, io.ErrUnexpectedEOF)
	f(100_000, 99_999, 10_000, io.ErrUnexpectedEOF)
	f(100, 101, 10, ErrTooLarge)
	f(-1, 1<<20, 1000, ErrTooLarge) // with the head
	checkInside(t, s)
}

// What is read stays whole while all around it is evicted, and so much may be held.
func TestSlowReaders(t *testing.T) {
	s := mustOpen(t, Config{Bytes: 8 << 20, ObjectMax: 600 << 10}, 0)
	defer s.Close(0)
	sh := &s.shards[0]
	views := make([]View, 12)
	refused := 0
	for i := range views {
		key := proofKey(i)
		if err := s.Set(&Put{Key: []byte(key), Expires: 9}, proof(key, 7, 500<<10), 0); err != nil {
			t.Fatal(err)
		}
		if !s.Get([]byte(key), 0, &views[i]) {
			t.Fatal("not found")
		}
	}
	for i := range 10_000 {
		key := fmt.Sprint("other ", i)
		if err := s.Set(&Put{Key: []byte(key), Expires: 9}, make([]byte, 3000), 0); err != nil {
			refused++
		}
		var v View
		if s.Get([]byte(key), 0, &v) { // so that it goes to the main queue
			v.Close()
		}
		if sh.limbo.Load() > sh.limboMax() {
			t.Fatalf("%d segments in limbo, at most %d may be", sh.limbo.Load(), sh.limboMax())
		}
	}
	if s.Stats().Limbo == 0 {
		t.Error("nothing is held for readers only")
	}
	for i := range views {
		got, err := proven(proofKey(i), body(t, &views[i]))
		if err != nil || got != 7 {
			t.Fatalf("reader %d: %v", i, err)
		}
	}
	t.Logf("%d of 10,000 refused, limbo %d bytes", refused, s.Stats().Limbo)
	// Purges must not wait: limbo may grow beyond its bound, and new readers are refused.
	s.PurgeNow(Rule{}, 0)
	s.Sweep(0)
	if err := s.Set(&Put{Key: []byte("new"), Expires: 9, Born: s.Seq()}, make([]byte, 300<<10), 0); err == nil {
		var v View
		if s.Get([]byte("new"), 0, &v) {
			t.Error("a reader more, beyond the bound")
		}
		if s.Stats().Pinned != 1 {
			t.Errorf("%d counted", s.Stats().Pinned)
		}
	} else if err != ErrFull {
		t.Error(err)
	}
	for i := range views {
		views[i].Close()
	}
	if s.Stats().Limbo != 0 {
		t.Error("limbo is not empty")
	}
	checkInside(t, s)
}

func TestEach(t *testing.T) {
	s := mustOpen(t, Config{Bytes: 4 << 20}, 0)
	defer s.Close(0)
	for i := range 100 {
		p := Put{Key: []byte(proofKey(i)), Head: []byte("h"), Labels: []uint32{uint32(1 + i%2)}, Expires: 50}
		if err := s.Set(&p, make([]byte, i), 0); err != nil {
			t.Fatal(err)
		}
	}
	s.Delete([]byte(proofKey(0)))
	f := func(label uint32, want int) {
		t.Helper()
		n := 0
		s.Each(label, func(key, head []byte, size, expires int64) bool {
			if string(key) != proofKey(int(size)) || string(head) != "h" || expires != 50 {
				t.Errorf("%q %q %d %d", key, head, size, expires)
			}
			n++
			return n < 1000
		})
		if n != want {
			t.Errorf("label %d: %d, want %d", label, n, want)
		}
	}
	f(0, 99)
	f(1, 49)
	f(2, 50)
	f(3, 0)
	s.Purge(Rule{Groups: [][]uint32{{2}}})
	f(0, 49)
	if w := s.Sweep(100); w != (Swept{Expired: 49}) {
		t.Errorf("%+v", w)
	}
	if held := s.Stats().Held; held != 0 {
		t.Errorf("%d bytes held of nothing", held)
	}
}

func TestPurgeRules(t *testing.T) {
	f := func(labels []uint32, r Rule, want bool) {
		t.Helper()
		for _, now := range []bool{false, true} {
			s := mustOpen(t, Config{Bytes: 1 << 20}, 0)
			p := Put{Key: []byte("key"), Labels: labels, Expires: 9}
			if err := s.Set(&p, nil, 0); err != nil {
				t.Fatal(err)
			}
			if !now {
				s.Purge(r)
			} else if hits := s.PurgeNow(r, 0); hits == 1 != want {
				t.Errorf("%v %v: %d hits", labels, r, hits)
			}
			var v View
			if found := s.Get(p.Key, 0, &v); found != (r.Soft || !want) || found && v.Soft != want {
				t.Errorf("%v %v: found %v, soft %v", labels, r, found, v.Soft)
			}
			v.Close()
			s.Close(0)
		}
	}
	for _, soft := range []bool{false, true} {
		f(nil, Rule{nil, soft}, true)
		f([]uint32{1}, Rule{nil, soft}, true)
		f([]uint32{1, 2}, Rule{[][]uint32{{2}}, soft}, true)
		f([]uint32{1, 2}, Rule{[][]uint32{{3, 1}}, soft}, true)
		f([]uint32{1, 2}, Rule{[][]uint32{{3}}, soft}, false)
		f(nil, Rule{[][]uint32{{3}}, soft}, false)
		f([]uint32{0}, Rule{[][]uint32{{0}}, soft}, true)
		f([]uint32{1, 2}, Rule{[][]uint32{{1}, {2}}, soft}, true)
		f([]uint32{1, 2}, Rule{[][]uint32{{1}, {3}}, soft}, false)
		f([]uint32{1, 2}, Rule{[][]uint32{{3}, {2}}, soft}, false)
		f([]uint32{1, 2}, Rule{[][]uint32{{1}, {}}, soft}, false)
		f([]uint32{1, 2}, Rule{[][]uint32{{}}, soft}, false)
		f([]uint32{1, 2, 3}, Rule{[][]uint32{{9, 1}, {2, 8}, {3}}, soft}, true)
		f([]uint32{9999}, Rule{[][]uint32{make([]uint32, RuleLabelsMax)}, soft}, false)
		f([]uint32{9999}, Rule{[][]uint32{make([]uint32, RuleLabelsMax+1)}, soft}, true)
	}
}

func numberKey(dst []byte, i int) []byte { return binary.BigEndian.AppendUint64(dst[:0], uint64(i)) }

// fillNumbers stores n small entries with label 1.
func fillNumbers(t testing.TB, s *Store, n, size int) {
	var key, value []byte = nil, make([]byte, size)
	labels := []uint32{1}
	for i := range n {
		key = numberKey(key, i)
		if err := s.Set(&Put{Key: key, Labels: labels, Expires: math.MaxInt64}, value, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOverhead(t *testing.T) {
	n := 1_000_000
	s := mustOpen(t, Config{Bytes: 256 << 20}, 0)
	defer s.Close(0)
	worst := 0.0
	for i := range n / 50_000 {
		var key []byte
		for j := range 50_000 {
			key = numberKey(key, i*50_000+j)
			if err := s.Set(&Put{Key: key, Expires: 1}, key, 0); err != nil {
				t.Fatal(err)
			}
		}
		if i >= 10 {
			st := s.Stats()
			worst = max(worst, float64(st.Overhead)/float64(st.Entries))
		}
	}
	st := s.Stats()
	t.Logf("%d entries, %.1f bytes beside each, %.1f at worst on the way", st.Entries, float64(st.Overhead)/float64(st.Entries), worst)
	if st.Entries != n || worst > 64 {
		t.Errorf("%d entries, %.1f bytes beside each", st.Entries, worst)
	}
}

func TestPurgeMillion(t *testing.T) {
	n := 1_000_000
	s := mustOpen(t, Config{Bytes: 256 << 20}, 0)
	defer s.Close(0)
	fillNumbers(t, s, n, 32)
	if err := s.Set(&Put{Key: []byte("other"), Labels: []uint32{2}, Expires: 9}, nil, 0); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	worst := time.Duration(0)
	wg.Go(func() {
		var v View
		for !stop.Load() {
			start := time.Now()
			s.Get([]byte("other"), 0, &v)
			worst = max(worst, time.Since(start))
			v.Close()
			runtime.Gosched()
		}
	})
	start := time.Now()
	s.Purge(Rule{Groups: [][]uint32{{3}}})
	one := time.Since(start)
	s.Sweep(0)
	start = time.Now()
	hits := s.PurgeNow(Rule{Groups: [][]uint32{{1}}}, 0)
	took := time.Since(start)
	stop.Store(true)
	wg.Wait()
	t.Logf("Purge %v, PurgeNow of %d entries %v, longest read %v", one, hits, took, worst)
	if hits != n || s.Stats().Entries != 1 {
		t.Errorf("%d entries hit, %d left", hits, s.Stats().Entries)
	}
	if worst > 50*time.Millisecond && !raceBuild {
		t.Errorf("a read took %v", worst)
	}
	checkInside(t, s)
}

// rss is what the process has in memory, but its heap.
func rss(t testing.TB) int64 {
	runtime.GC()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatalf("resident memory is read from /proc, which only Linux has: %v", err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return resident*int64(os.Getpagesize()) - int64(m.Sys-m.HeapReleased)
}

func TestShrink(t *testing.T) {
	before := rss(t)
	s := mustOpen(t, Config{Bytes: 128 << 20}, 0)
	defer s.Close(0)
	fillNumbers(t, s, 60_000, 4000)
	full := rss(t) - before
	s.Resize(32 << 20)
	shrunk := rss(t) - before
	t.Logf("resident: %d MiB full, %d MiB shrunk, %+v", full>>20, shrunk>>20, s.Stats())
	if filesKept && !raceBuild && (full < 100<<20 || shrunk > 40<<20) {
		t.Errorf("resident: %d MiB full, %d MiB shrunk", full>>20, shrunk>>20)
	}
	entries := s.Stats().Entries
	if entries < 5000 {
		t.Errorf("%d entries left", entries)
	}
	s.Resize(256 << 20)
	fillNumbers(t, s, 60_000, 4000)
	if got := s.Stats().Entries; got < 59_000 {
		t.Errorf("%d entries after growth", got)
	}
	checkInside(t, s)
}

// soakSize is mostly small, up to 256 KiB.
func soakSize(rnd *rand.Rand) int {
	return min(256<<10, int(400*math.Exp(rnd.NormFloat64()*2)))
}

func TestSoak(t *testing.T) {
	ops, err := strconv.Atoi(os.Getenv("SLUICE_CACHE_SOAK_OPS"))
	if err != nil {
		ops = 200_000
	}
	const size = 64 << 20
	before := rss(t)
	s := mustOpen(t, Config{Bytes: size}, 0)
	defer s.Close(0)
	rnd := rand.New(rand.NewPCG(3, 3))
	value := make([]byte, 256<<10)
	var key []byte
	var v View
	most, full, now := int64(0), 0, int64(0)
	for i := range ops {
		now++
		key = numberKey(key, rnd.IntN(200_000))
		switch rnd.IntN(10) {
		case 0:
			s.Delete(key)
		case 1, 2:
			if s.Get(key, now, &v) {
				v.Close()
			}
		default:
			p := Put{Key: key, Labels: []uint32{uint32(i % 100)}, Expires: now + rnd.Int64N(200_000), Born: s.Seq()}
			if err := s.Set(&p, value[:soakSize(rnd)], now); err == ErrFull {
				full++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if i%20_000 == 0 {
			most = max(most, rss(t)-before)
			s.Purge(Rule{Groups: [][]uint32{{uint32(i / 20_000 % 100)}}})
			s.Sweep(now)
		}
	}
	st := s.Stats()
	t.Logf("%d operations: at most %d MiB resident, %d refused, %+v", ops, most>>20, full, st)
	if most > size+8<<20 && !raceBuild || full > 0 { // the race detector has memory of its own
		t.Errorf("%d MiB resident of %d, %d refused", most>>20, size>>20, full)
	}
	if st.Bytes+st.Overhead < size*3/4 && ops >= 200_000 {
		t.Errorf("only %d MiB of %d are used", (st.Bytes+st.Overhead)>>20, size>>20)
	}
	checkInside(t, s)
}
