package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/cache"
)

const storeNow = workload.NowMillis

var storeSink atomic.Int64

func openStore(b *testing.B, size int64) *cache.Store {
	b.Helper()
	s, err := cache.Open(cache.Config{Bytes: size}, storeNow)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(storeNow) })
	return s
}

// filledStore has n entries in about one and a half times the memory that they need.
// They come in random order, so that the popular ones do not lie together.
func filledStore(b *testing.B, n int) *cache.Store {
	b.Helper()
	s := openStore(b, int64(n)*workload.EntryBytesMax*3/2)
	value := make([]byte, workload.EntryValueBytes)
	p := cache.Put{Labels: make([]uint32, 1), Expires: storeNow + workload.EntryTTL}
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(n) {
		p.Key, p.Labels[0] = workload.AppendEntryKey(p.Key[:0], i), storeLabel(i)
		if err := s.Set(&p, value, storeNow); err != nil {
			b.Fatal(err)
		}
	}
	if held := s.Stats().Entries; held != n {
		b.Fatalf("%d of %d entries are there", held, n)
	}
	return s
}

// storeLabels is how many labels share the entries.
const storeLabels = 1000

func storeLabel(i int) uint32 { return uint32(1 + i%storeLabels) }

// BenchmarkStore is one call of the store with entries of 1 KiB. A hit copies key and
// value out of the arena; get-popular has the keys that a few clients ask for all
// the time, the others every key with the same chance. set replaces an entry.
func BenchmarkStore(b *testing.B) {
	for _, n := range workload.Sizes(1000, 100_000, 1_000_000) {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			s, keys := filledStore(b, n), workload.NewEntryKeys(n, nil)
			popular := workload.NewEntryKeys(n, workload.Zipf(rand.New(rand.NewPCG(5, 6)), n, 0.9))
			runtime.GC() // what filling left behind is not part of it
			b.Run("get", func(b *testing.B) { benchmarkStoreGet(b, s, keys) })
			b.Run("get-popular", func(b *testing.B) { benchmarkStoreGet(b, s, popular) })
			b.Run("miss", func(b *testing.B) { benchmarkStoreMiss(b, s, keys) })
			b.Run("set", func(b *testing.B) { benchmarkStoreSet(b, s, keys) })
			s.Close(storeNow)
		})
	}
}

func benchmarkStoreGet(b *testing.B, s *cache.Store, keys *workload.Keys) {
	b.ReportAllocs()
	b.SetBytes(workload.EntryValueBytes)
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var v cache.View
		sum, i := 0, rand.IntN(keys.Mask())
		for pb.Next() {
			i++
			if !s.Get(keys.At(i), storeNow, &v) {
				b.Error("missed")
				return
			}
			sum += len(v.Body)
			v.Close()
		}
		storeSink.Add(int64(sum))
	})
}

func benchmarkStoreMiss(b *testing.B, s *cache.Store, keys *workload.Keys) {
	b.ReportAllocs()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var v cache.View
		i := rand.IntN(keys.Mask())
		key := make([]byte, keys.Size())
		for pb.Next() {
			i++
			copy(key, keys.At(i))
			key[0] = 'M' // nobody's
			if s.Get(key, storeNow, &v) {
				b.Error("found")
				return
			}
		}
	})
}

func benchmarkStoreSet(b *testing.B, s *cache.Store, keys *workload.Keys) {
	b.ReportAllocs()
	b.SetBytes(workload.EntryValueBytes)
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		value := make([]byte, workload.EntryValueBytes)
		p := cache.Put{Labels: []uint32{1}, Expires: storeNow + workload.EntryTTL}
		i := rand.IntN(keys.Mask())
		for pb.Next() {
			i++
			p.Key = keys.At(i)
			if err := s.Set(&p, value, storeNow); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkStoreSetNew is an entry under a new key in a full store, with the eviction
// that makes room for it.
func BenchmarkStoreSetNew(b *testing.B) {
	s := openStore(b, 64<<20)
	value := make([]byte, workload.EntryValueBytes)
	var last atomic.Int64
	set := func(p *cache.Put, i int64) error {
		p.Key = workload.AppendEntryKey(p.Key[:0], int(i))
		return s.Set(p, value, storeNow)
	}
	newPut := func() *cache.Put { return &cache.Put{Labels: []uint32{1}, Expires: storeNow + workload.EntryTTL} }
	for p := newPut(); s.Stats().Evictions == 0; {
		for range 1000 {
			if err := set(p, last.Add(1)); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	b.SetBytes(workload.EntryValueBytes)
	b.ResetTimer()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		p := newPut()
		p.Key = workload.AppendEntryKey(nil, 0)
		end := len(p.Key)
		for pb.Next() {
			// storeKey would be a third of the time.
			n := last.Add(1)
			for at := end - len(workload.EntryKeyTail) - 1; n > 0; at-- {
				p.Key[at] = '0' + byte(n%10)
				n /= 10
			}
			if err := s.Set(p, value, storeNow); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkStoreReadAt is a hit of a large entry that is read piece by piece, as its
// response is sent.
func BenchmarkStoreReadAt(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 8 << 20} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			const n = 16
			s := openStore(b, 512<<20)
			body := make([]byte, size)
			for i := range n {
				p := cache.Put{Key: workload.AppendEntryKey(nil, i), Head: make([]byte, 200), Expires: storeNow + workload.EntryTTL}
				if err := s.Set(&p, body, storeNow); err != nil {
					b.Fatal(err)
				}
			}
			keys := workload.NewEntryKeys(n, nil)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			b.ResetTimer()
			defer workload.ReportCPU(b)()
			b.RunParallel(func(pb *testing.PB) {
				var v cache.View
				piece := make([]byte, 64<<10)
				for i := rand.IntN(n); pb.Next(); i++ {
					if !s.Get(keys.At(i), storeNow, &v) {
						b.Error("missed")
						return
					}
					for off := int64(0); off < v.Size; off += int64(len(piece)) {
						v.ReadAt(piece, off)
					}
					v.Close()
				}
			})
		})
	}
}

// BenchmarkStorePurge is what a purge costs among 100,000 entries. rule is the purge of
// one label, which does not depend on them; recheck is a hit of each entry after
// a purge that was about another, beside the get of BenchmarkStore; sweep looks at
// all entries; now is the purge of one label with the pass that counts the entries
// which it hits, of which there are none, so that each pass finds the same.
func BenchmarkStorePurge(b *testing.B) {
	const n = 100_000
	s := filledStore(b, n)
	none := cache.Rule{Groups: [][]uint32{{storeLabels + 1}}}
	b.Run("rule", func(b *testing.B) {
		b.ReportAllocs()
		defer workload.ReportCPU(b)()
		for b.Loop() {
			s.Purge(none)
		}
	})
	b.Run("recheck", func(b *testing.B) {
		all, next := rand.New(rand.NewPCG(5, 6)).Perm(n), -1
		order := workload.NewEntryKeys(n, func() int {
			next++
			return all[next%n]
		})
		var v cache.View
		b.ReportAllocs()
		defer workload.ReportCPU(b)()
		i := n
		for b.Loop() {
			if i == n {
				s.Purge(none)
				i = 0
			}
			if !s.Get(order.At(i), storeNow, &v) {
				b.Fatal("missed")
			}
			v.Close()
			i++
		}
	})
	b.Run("sweep", func(b *testing.B) {
		b.ReportAllocs()
		defer workload.ReportCPU(b)()
		for b.Loop() {
			s.Sweep(storeNow)
		}
	})
	b.Run("now", func(b *testing.B) {
		b.ReportAllocs()
		defer workload.ReportCPU(b)()
		for b.Loop() {
			s.PurgeNow(none, storeNow)
		}
	})
}
