package cache

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var sink int

// benchStore has n entries of a size, in twice the memory that they need.
func benchStore(b *testing.B, n, size int) *Store {
	b.Helper()
	s := mustOpen(b, Config{Bytes: int64(n) * int64(size+200) * 2}, 0)
	b.Cleanup(func() { s.Close(0) })
	fillNumbers(b, s, n, size)
	return s
}

func benchGet(b *testing.B, s *Store, n, from int) {
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var v View
		var key []byte
		rnd := rand.Uint32()
		hits := 0
		for pb.Next() {
			rnd = rnd*1664525 + 1013904223
			key = numberKey(key, from+int(uint64(rnd)*uint64(n)>>32))
			if s.Get(key, 0, &v) {
				hits += len(v.Body)
				v.Close()
			}
		}
		sink = hits
	})
}

// Run with -cpu 1,2.
func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("1KiB/%d", n), func(b *testing.B) { benchGet(b, benchStore(b, n, 1024), n, 0) })
	}
	b.Run("64KiB/1000", func(b *testing.B) { benchGet(b, benchStore(b, 1000, 64<<10), 1000, 0) })
	b.Run("miss/1000000", func(b *testing.B) { benchGet(b, benchStore(b, 1_000_000, 64), 1_000_000, 1<<30) })
	b.Run("one key", func(b *testing.B) { benchGet(b, benchStore(b, 1000, 1024), 1, 0) })
}

func BenchmarkSet(b *testing.B) {
	s := benchStore(b, 100_000, 1024)
	value := make([]byte, 1024)
	p := Put{Labels: []uint32{1}, Expires: math.MaxInt64}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		p.Key = numberKey(p.Key, i)
		if err := s.Set(&p, value, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopy is what a Get of 1 KiB cannot be faster than: the same bytes copied
// from random places in a slice as large as the store.
func BenchmarkCopy(b *testing.B) {
	const n = 1_000_000
	from, to := make([]byte, n*1224), make([]byte, 1024)
	for i := range from {
		from[i] = byte(i)
	}
	rnd := rand.Uint32()
	b.ResetTimer()
	for range b.N {
		rnd = rnd*1664525 + 1013904223
		copy(to, from[int(uint64(rnd)*n>>32)*1224:])
	}
	sink = int(to[0])
}
