//go:build linux

package tunnel

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// ways are how bytes can pass: with no tunnel, io.Copy of the standard library
// (which splices), and our tunnel as it is, never splicing, and always.
var ways = []string{"direct", "iocopy", "tunnel", "copies", "splices"}

// pass connects two far ends in one of the ways.
func pass(b *testing.B, way string) (client, service net.Conn) {
	if way == "direct" {
		return link(b, false)
	}
	client, nearClient := link(b, false)
	service, nearService := link(b, false)
	if way == "iocopy" {
		go io.Copy(nearService, nearClient)
		go io.Copy(nearClient, nearService)
		return client, service
	}
	t := New(End{Conn: nearClient}, End{Conn: nearService}, Settings{Idle: time.Minute})
	for _, d := range []*direction{&t.up, &t.down} {
		switch way {
		case "copies":
			d.raw.refuses = true
		case "splices":
			d.raw.splices, d.raw.spliceFrom = true, 0
		}
	}
	done := make(chan struct{})
	go func() { t.Run(); close(done) }()
	b.Cleanup(func() { t.Close(); <-done })
	return client, service
}

// cpu returns the time this process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func sizes(b *testing.B, f func(b *testing.B, way string, size int)) {
	for _, size := range []int{64, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("%d/%s", size, way), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				f(b, way, size)
			})
		}
	}
}

// BenchmarkEcho sends a message and waits for it to come back. cpu-µs/op is of
// both ends and the tunnel: "direct" is what the ends alone need.
func BenchmarkEcho(b *testing.B) {
	sizes(b, func(b *testing.B, way string, size int) {
		client, service := pass(b, way)
		go func() {
			m := make([]byte, size)
			for {
				if _, err := io.ReadFull(service, m); err != nil {
					return
				}
				if _, err := service.Write(m); err != nil {
					return
				}
			}
		}()
		m := make([]byte, size)
		before := cpu()
		for b.Loop() {
			if _, err := client.Write(m); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(client, m); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e3, "cpu-µs/op")
		client.Close()
		service.Close()
	})
}

// BenchmarkStream sends messages one way without a pause.
func BenchmarkStream(b *testing.B) {
	sizes(b, func(b *testing.B, way string, size int) {
		client, service := pass(b, way)
		got := make(chan int64)
		go func() {
			buf := make([]byte, 256<<10)
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{service}, buf)
			got <- n
		}()
		m := make([]byte, size)
		before := cpu()
		for b.Loop() {
			if _, err := client.Write(m); err != nil {
				b.Fatal(err)
			}
		}
		client.(*net.TCPConn).CloseWrite()
		if way == "iocopy" {
			client.Close() // io.Copy passes no half close on
			return
		}
		if n := <-got; n != int64(b.N*size) {
			b.Fatalf("%d bytes of %d", n, b.N*size)
		}
		b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e3, "cpu-µs/op")
	})
}
