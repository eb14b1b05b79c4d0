//go:build unix && !heaparena

package cache

import (
	"path/filepath"
	"testing"
)

// BenchmarkOpen recovers entries of 1 KiB whose pages are in memory; Close, which
// writes them to the disk, is not measured.
func BenchmarkOpen(b *testing.B) {
	const size = 256 << 20
	c := Config{Bytes: size, File: filepath.Join(b.TempDir(), "store")}
	s := mustOpen(b, c, 0)
	fillNumbers(b, s, size/1200, 1024)
	b.SetBytes(s.Stats().Bytes)
	for b.Loop() {
		b.StopTimer()
		if err := s.Close(0); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		s = mustOpen(b, c, 0)
	}
	if err := s.Close(0); err != nil {
		b.Fatal(err)
	}
}
