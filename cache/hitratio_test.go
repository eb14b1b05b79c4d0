package cache

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
)

// trace is a sequence of requests for objects, the size of which follows from their
// number. It is the same at every run.
type trace struct {
	name string
	next func() uint64
	// least is how much the store's hit ratio must be above that of LRU, in percent of
	// all requests.
	least float64
}

// zipf draws numbers below n, of which the kth is drawn in proportion to k^-s.
func zipf(rnd *rand.Rand, n int, s float64) func() uint64 {
	sum := make([]float64, n)
	total := 0.0
	for i := range sum {
		total += math.Pow(float64(i+1), -s)
		sum[i] = total
	}
	return func() uint64 { return uint64(sort.SearchFloat64s(sum, rnd.Float64()*total)) }
}

func traces() []trace {
	rnd := rand.New(rand.NewPCG(7, 7))
	once := uint64(1 << 40)
	wonder := func() uint64 { once++; return once }
	mixed := func(n int, s, wonders float64) func() uint64 {
		z := zipf(rnd, n, s)
		return func() uint64 {
			if rnd.Float64() < wonders {
				return wonder()
			}
			return z()
		}
	}
	i := uint64(0)
	z1, z2 := zipf(rnd, 40_000, 1), zipf(rnd, 40_000, 1)
	scan := func() uint64 {
		i++
		switch phase := i % 40_000; {
		case phase < 10_000:
			return 1<<41 + i // read once
		case phase < 20_000 && phase%2 == 0:
			return 1<<42 + phase/2%8_000 // a loop, longer than the cache
		}
		return z1()
	}
	j := uint64(0)
	shifting := func() uint64 {
		j++
		if rnd.IntN(5) == 0 {
			return wonder()
		}
		return z2() + j/25_000*1_000 // each epoch the most popular thousand is out
	}
	return []trace{
		{"zipf 0.8", zipf(rnd, 40_000, 0.8), 2},
		{"zipf 1.0", zipf(rnd, 40_000, 1), 1.5},
		{"zipf 0.8, 30 % read once", mixed(40_000, 0.8, 0.3), 2.5},
		{"zipf 1.0, 30 % read once", mixed(40_000, 1, 0.3), 2},
		{"scans and loops", scan, 2},
		{"shifting popularity", shifting, -1},
	}
}

func objectSize(key uint64) int { return 200 + int(key*0x9e3779b97f4a7c15>>54) }

// policy is a cache that is asked for an object and stores it if it has it not.
type policy interface{ has(key uint64) bool }

// listCache is LRU, or FIFO if hits do not move.
type listCache struct {
	room, fixed int
	fifo        bool
	order       *list.List
	at          map[uint64]*list.Element
}

func (c *listCache) has(key uint64) bool {
	if e := c.at[key]; e != nil {
		if !c.fifo {
			c.order.MoveToFront(e)
		}
		return true
	}
	c.at[key] = c.order.PushFront(key)
	c.room -= objectSize(key) + c.fixed
	for c.room < 0 {
		old := c.order.Remove(c.order.Back()).(uint64)
		delete(c.at, old)
		c.room += objectSize(old) + c.fixed
	}
	return false
}

type storeCache struct {
	s    *Store
	v    View
	body []byte
	t    testing.TB
}

func (c *storeCache) has(key uint64) bool {
	k := binary.LittleEndian.AppendUint64(nil, key)
	if c.s.Get(k, 0, &c.v) {
		c.v.Close()
		return true
	}
	if err := c.s.Set(&Put{Key: k, Expires: math.MaxInt64}, c.body[:objectSize(key)], 0); err != nil {
		c.t.Fatal(err)
	}
	return false
}

// The lists are charged as the store is: 8 bytes of key, and 56 beside, which is less
// than a cache of maps and lists takes.
const listFixed = 8 + 56

func TestHitRatio(t *testing.T) {
	requests := 150_000
	if testing.Short() {
		requests = 100_000
	}
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-26s %8s %8s %8s\n", "trace, 4 MiB", "store", "LRU", "FIFO")
	for i := range traces() {
		const size = 4 << 20
		newList := func(fifo bool) policy {
			return &listCache{room: size, fixed: listFixed, fifo: fifo, order: list.New(), at: map[uint64]*list.Element{}}
		}
		s := mustOpen(t, Config{Bytes: size}, 0)
		ratio := [3]float64{}
		for j, c := range []policy{&storeCache{s: s, body: make([]byte, 4096), t: t}, newList(false), newList(true)} {
			x, hits := traces()[i], 0
			for n := range requests {
				if c.has(x.next()) && n >= requests/4 {
					hits++
				}
			}
			ratio[j] = 100 * float64(hits) / float64(requests-requests/4)
		}
		x := traces()[i]
		fmt.Fprintf(table, "%-26s %7.1f%% %7.1f%% %7.1f%%\n", x.name, ratio[0], ratio[1], ratio[2])
		if ratio[0] < ratio[1]+x.least {
			t.Errorf("%s: %.1f %%, LRU %.1f %%: less than %.1f better", x.name, ratio[0], ratio[1], x.least)
		}
		if err := s.Close(0); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("\n%s", table)
}
