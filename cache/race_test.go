package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stress is what many goroutines do to one store.
type stress struct {
	t    *testing.T
	s    *Store
	now  atomic.Int64
	stop atomic.Bool
	hits atomic.Int64
}

const stressKeys = 400

func (x *stress) set(rnd *rand.Rand) {
	i := rnd.IntN(stressKeys)
	key := proofKey(i)
	p := Put{Key: []byte(key), Head: []byte(key), Labels: []uint32{uint32(i % 10), 77}, Born: x.s.Seq()}
	p.Expires = x.now.Load() + rnd.Int64N(5000)
	size := rnd.IntN(4000)
	if rnd.IntN(10) == 0 {
		size = rnd.IntN(300 << 10)
	}
	b := proof(key, rnd.Uint64(), size)
	var err error
	switch rnd.IntN(3) {
	case 0:
		err = x.stream(rnd, &p, b)
	default:
		err = x.s.Set(&p, b, x.now.Load())
	}
	if err != nil && err != ErrFull && err != ErrPurged {
		x.t.Error(err)
	}
	if rnd.IntN(4) == 0 {
		p.Head = []byte(key + " again")
		if err := x.s.SetHead(&p, nil, x.now.Load()); err != nil && err != ErrMissing && err != ErrFull && err != ErrPurged {
			x.t.Error(err)
		}
	}
}

// stream writes a body in pieces while another goroutine follows it.
func (x *stress) stream(rnd *rand.Rand, p *Put, b []byte) error {
	w, err := x.s.Create(p, -1, x.now.Load())
	if err != nil {
		return err
	}
	w.Hold()
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer w.Release()
		got := make([]byte, 0, len(b))
		piece := make([]byte, 8<<10)
		for {
			ended := done.Load()
			n := w.ReadAt(piece, int64(len(got)))
			got = append(got, piece[:n]...)
			if n == 0 && ended {
				break
			}
		}
		if string(got) != string(b[:len(got)]) || int64(len(got)) != w.Written() {
			x.t.Errorf("followed %d bytes of %d", len(got), len(b))
		}
	})
	for rest := b; len(rest) > 0 && err == nil; {
		n := min(len(rest), 1+rnd.IntN(50<<10))
		_, err = w.Write(rest[:n])
		rest = rest[n:]
	}
	if err == nil && rnd.IntN(8) > 0 {
		err = w.Commit(x.now.Load())
	} else {
		w.Abort()
	}
	done.Store(true)
	wg.Wait()
	return err
}

func (x *stress) get(rnd *rand.Rand, v *View) {
	key := proofKey(rnd.IntN(stressKeys))
	if !x.s.Get([]byte(key), x.now.Load(), v) {
		return
	}
	x.hits.Add(1)
	b := make([]byte, v.Size)
	for at := 0; at < len(b); {
		n, err := v.ReadAt(b[at:min(at+20<<10, len(b))], int64(at))
		if err != nil {
			x.t.Errorf("%s: read at %d of %d: %v", key, at, len(b), err)
			return
		}
		at += n
	}
	if _, err := proven(key, b); err != nil {
		x.t.Errorf("%s: %d bytes: %v", key, v.Size, err)
	}
	if h := string(v.Head); h != key && h != key+" again" {
		x.t.Errorf("%s: head %q", key, h)
	}
	v.Close()
}

func (x *stress) run(seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	var v View
	for !x.stop.Load() {
		switch n := rnd.IntN(1000); {
		case n < 600:
			x.get(rnd, &v)
		case n < 920:
			x.set(rnd)
		case n < 970:
			x.s.Delete([]byte(proofKey(rnd.IntN(stressKeys))))
		case n < 980:
			x.s.Purge(Rule{Groups: [][]uint32{{rnd.Uint32N(10)}}, Soft: rnd.IntN(2) == 0})
		case n < 985:
			x.s.Sweep(x.now.Load())
		case n < 988:
			x.s.PurgeNow(Rule{Groups: [][]uint32{{77}, {rnd.Uint32N(10)}}}, x.now.Load())
		case n < 990:
			x.s.Resize(int64(2+rnd.IntN(6)) << 20)
		case n < 992:
			x.s.Each(uint32(rnd.IntN(3)), func(key, head []byte, _, _ int64) bool {
				if len(head) < len(key) {
					x.t.Errorf("%q has head %q", key, head)
				}
				return rnd.IntN(100) > 0
			})
			x.s.Stats()
		default:
			x.now.Add(rnd.Int64N(50))
		}
	}
}

func stressFor(t *testing.T) time.Duration {
	seconds, err := strconv.Atoi(os.Getenv("SLUICE_CACHE_RACE_SECONDS"))
	if err != nil {
		seconds = 2
	}
	return time.Duration(seconds) * time.Second
}

func testStress(t *testing.T, c Config) {
	x := &stress{t: t, s: mustOpen(t, c, 0)}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() { x.run(uint64(i)) })
	}
	timer := time.AfterFunc(stressFor(t)/2, func() { x.stop.Store(true) })
	defer timer.Stop()
	wg.Wait()
	x.s.Sweep(x.now.Load())
	checkInside(t, x.s)
	t.Logf("%d hits, %+v", x.hits.Load(), x.s.Stats())
	if x.hits.Load() < 100 {
		t.Error("hardly anything was found: this tests nothing")
	}
	if err := x.s.Close(0); err != nil {
		t.Error(err)
	}
}

func TestConcurrent(t *testing.T) { testStress(t, Config{Bytes: 4 << 20, ObjectMax: 300 << 10}) }

// Close may come at any time.
func TestCloseConcurrent(t *testing.T) {
	for range 6 {
		x := &stress{t: t, s: mustOpen(t, Config{Bytes: 4 << 20, ObjectMax: 300 << 10}, 0)}
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 4))
				var v View
				for j := range 300 {
					key := proofKey(rnd.IntN(20))
					p := Put{Key: []byte(key), Head: []byte(key), Expires: 1e9}
					b := proof(key, 1, rnd.IntN(200<<10))
					if err := x.s.Set(&p, b, 0); err != nil && err != ErrClosed && err != ErrFull {
						t.Error(err)
					}
					x.get(rnd, &v)
					if i == 0 && j == 50 {
						if err := x.s.Close(0); err != nil {
							t.Error(err)
						}
					}
					if i == 1 && j%50 == 0 {
						x.s.Sweep(0)
						x.s.Resize(int64(4+j/50) << 20)
					}
				}
			})
		}
		wg.Wait()
		if err := x.s.Close(0); err != ErrClosed {
			t.Error(err)
		}
		if n := x.s.holders.Load(); n != 0 {
			t.Fatalf("%d holders", n)
		}
		p := Put{Key: []byte("k")}
		if err := x.s.SetHead(&p, nil, 0); err != ErrClosed {
			t.Error(err)
		}
		if _, err := x.s.Create(&p, 1, 0); err != ErrClosed {
			t.Error(err)
		}
		if x.s.Delete(p.Key) || x.s.PurgeNow(Rule{}, 0) != 0 {
			t.Error(fmt.Errorf("a closed store has entries"))
		}
	}
}
