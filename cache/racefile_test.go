//go:build unix && !heaparena

package cache

import (
	"path/filepath"
	"testing"
)

func TestConcurrentFile(t *testing.T) {
	testStress(t, Config{Bytes: 4 << 20, ObjectMax: 300 << 10, File: filepath.Join(t.TempDir(), "store")})
}
