package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// proof is a body that tells by itself whether it is whole, which key it belongs to
// and its version.
func proof(key string, version uint64, size int) []byte {
	b := make([]byte, max(size, 24))
	rand.NewChaCha8([32]byte{byte(version), byte(size), byte(len(key))}).Read(b[24:])
	binary.LittleEndian.PutUint64(b[8:], version)
	binary.LittleEndian.PutUint64(b[16:], xxhash.Sum64String(key))
	binary.LittleEndian.PutUint64(b, xxhash.Sum64(b[8:]))
	return b
}

// proven returns the version in a body.
func proven(key string, b []byte) (version uint64, err error) {
	if len(b) < 24 || binary.LittleEndian.Uint64(b) != xxhash.Sum64(b[8:]) {
		return 0, errors.New("damaged body")
	}
	if binary.LittleEndian.Uint64(b[16:]) != xxhash.Sum64String(key) {
		return 0, errors.New("another key's body")
	}
	return binary.LittleEndian.Uint64(b[8:]), nil
}

// body reads the body of an open view.
func body(t testing.TB, v *View) []byte {
	t.Helper()
	b := make([]byte, v.Size)
	if n, err := v.ReadAt(b, 0); n != len(b) || err != nil && len(b) > 0 {
		t.Fatalf("read %d of %d: %v", n, len(b), err)
	}
	return b
}

func proofKey(i int) string { return fmt.Sprint("key ", i) }
