package proxycache

import (
	"bytes"
	"slices"
	"testing"

	"github.com/sluice-gateway/sluice/cache"
)

func TestShareRoundTrip(t *testing.T) {
	f := func(p cache.Put, m moment, body string) {
		t.Helper()
		b := writeShare(&p, m, []byte(body))
		e, ok := readShare(b)
		if !ok || !bytes.Equal(e.put.Key, p.Key) || !bytes.Equal(e.put.Head, p.Head) || !slices.Equal(e.put.Labels, p.Labels) ||
			e.put.Expires != p.Expires || e.moment != m || string(e.body) != body {
			t.Errorf("%+v came back as %+v, %v", p, e, ok)
		}
		for i := range b {
			torn := bytes.Clone(b)
			torn[i] ^= 0x40
			if _, ok := readShare(torn); ok {
				t.Fatalf("byte %d changed, and it is read", i)
			}
			if _, ok := readShare(b[:i]); ok {
				t.Fatalf("cut at %d, and it is read", i)
			}
		}
	}
	f(cache.Put{Key: []byte("k"), Head: []byte("head"), Labels: []uint32{1, 1 << 31}, Expires: 1_800_000_000_000}, moment{"EPOCH", 7}, "body")
	f(cache.Put{Key: []byte{0}, Expires: 1}, moment{"E", 0}, "")
}

func FuzzReadShare(f *testing.F) {
	f.Add(writeShare(&cache.Put{Key: []byte("k"), Head: []byte("h"), Labels: []uint32{1}, Expires: 5}, moment{"E", 1}, []byte("b")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := readShare(b); ok {
			again, ok := readShare(writeShare(&e.put, e.moment, e.body))
			if !ok || !bytes.Equal(again.body, e.body) || !bytes.Equal(again.put.Key, e.put.Key) {
				t.Error("what is read does not survive a round trip")
			}
		}
	})
}
