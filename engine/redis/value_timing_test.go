package redis

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// BenchmarkValue is of storing a value and of asking for it, alone.
func BenchmarkValue(b *testing.B) {
	server := redistest.Start(b)
	client, err := Open(Settings{Port: server.Port, ReadTimeout: 10 * time.Second}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	for _, n := range []int{0, 1 << 10, 64 << 10, ValueMax} {
		value, key := noise(n), "k"+strconv.Itoa(n)
		b.Run("set/"+strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				if err := client.Set(ctx, key, value, time.Hour); err != nil {
					b.Fatal(err)
				}
			}
		})
		get := func(name string, dst []byte) {
			b.Run(name+"/"+strconv.Itoa(n), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					if got, found, err := client.Get(ctx, key, dst); err != nil || !found || len(got) != n {
						b.Fatal(len(got), found, err)
					}
				}
			})
		}
		get("get", nil)
		get("get-into", make([]byte, 0, n))
	}
	b.Run("get-missing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, found, err := client.Get(ctx, "none", nil); err != nil || found {
				b.Fatal(found, err)
			}
		}
	})
}
