//go:build !race && !poison

package cache

import (
	"math"
	"testing"
)

func TestAllocs(t *testing.T) {
	s := mustOpen(t, Config{Bytes: 16 << 20, ObjectMax: 1 << 20}, 0)
	defer s.Close(0)
	var v View
	small := Put{Key: []byte("small"), Head: make([]byte, 100), Labels: []uint32{1, 2}, Expires: math.MaxInt64}
	large := Put{Key: []byte("large"), Expires: math.MaxInt64}
	body, piece := make([]byte, 1000), make([]byte, 32<<10)
	if err := s.Set(&large, make([]byte, 900<<10), 0); err != nil {
		t.Fatal(err)
	}
	f := func(name string, do func()) {
		t.Helper()
		do()
		if n := testing.AllocsPerRun(200, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	f("set", func() {
		if err := s.Set(&small, body, 0); err != nil {
			t.Error(err)
		}
	})
	f("hit", func() {
		if !s.Get(small.Key, 0, &v) {
			t.Error("missed")
		}
		v.Close()
	})
	f("large hit", func() {
		if !s.Get(large.Key, 0, &v) {
			t.Error("missed")
		}
		for off := int64(0); off < v.Size; off += int64(len(piece)) {
			if n, _ := v.ReadAt(piece, off); n == 0 {
				t.Error("nothing read")
			}
		}
		v.Close()
	})
	missing := []byte("missing")
	f("miss", func() {
		if s.Get(missing, 0, &v) {
			t.Error("hit")
		}
	})
	f("delete", func() { s.Delete(missing) })
}
