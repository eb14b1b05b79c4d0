package redis

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// BenchmarkRun compares a call of the client with what the library does by itself,
// with and without its own pipelining: alone, and with 64 under way.
func BenchmarkRun(b *testing.B) {
	server := redistest.Start(b)
	client, err := Open(Settings{Port: server.Port}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	library := func(change func(*rueidis.ClientOption)) func(key string) error {
		o := rueidis.ClientOption{InitAddress: []string{server.Addr()}, ForceSingleClient: true, DisableCache: true, ReadBufferEachConn: bufferBytes, WriteBufferEachConn: bufferBytes}
		change(&o)
		c, err := rueidis.NewClient(o)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(c.Close)
		script := rueidis.NewLuaScript(increment)
		return func(key string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			return script.Exec(ctx, c, []string{key}, []string{"1"}).Error()
		}
	}
	f := func(name string, call func(key string) error) {
		own := func() time.Duration {
			var r syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
				b.Fatal(err)
			}
			return time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
		one := func(b *testing.B, key string) {
			if err := call(key); err != nil {
				b.Error(err)
			}
		}
		b.Run(name+"/alone", func(b *testing.B) {
			b.ReportAllocs()
			before := own()
			for b.Loop() {
				one(b, "k")
			}
			b.ReportMetric(float64(own()-before)/float64(b.N), "cpu-ns/op")
		})
		b.Run(name+"/64", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			before := own()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					one(b, "k"+strconv.Itoa(i%10))
				}
			})
			b.ReportMetric(float64(own()-before)/float64(b.N), "cpu-ns/op")
		})
	}
	f("client", func(key string) error {
		_, err := client.Run(context.Background(), increment, []string{key}, []string{"1"})
		return err
	})
	f("library", library(func(*rueidis.ClientOption) {}))
	f("library-always-pipelining", library(func(o *rueidis.ClientOption) { o.AlwaysPipelining = true }))
	f("library-no-pipelining", library(func(o *rueidis.ClientOption) { o.DisableAutoPipelining = true }))
}
