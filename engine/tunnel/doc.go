// Package tunnel makes one connection of two, for WebSocket and other protocols
// that a client and a service have agreed to speak from here on: what one side
// sends goes to the other as it is, both ways, until one side ends or a limit is
// reached.
//
//	t := tunnel.New(tunnel.End{Conn: client, Pending: early}, tunnel.End{Conn: service}, settings)
//	result := t.Run() // blocks; both connections are closed when it returns
//
// Hand it the *net.TCPConn of a connection without TLS, not a wrapper: only then
// can bytes pass without being copied, and only then is no buffer held for a
// silent side. The rest may be any net.Conn whose deadlines work; one without
// CloseWrite ends both directions when its peer ends one. That of a peer of TLS
// is a close_notify.
//
// # How bytes move
//
// Each direction is a goroutine that waits until its source has something. It
// takes buffer or pipe then, and gives it back when the source is silent again,
// so tunnels cost nothing but their goroutines while nothing is said: 6.3 KB
// each, two stacks included (TestIdleHoldsNothing, 2,000 tunnels after traffic;
// connections and the kernel's share not counted). A source under TLS cannot be
// asked whether it has something: that direction keeps 1 KiB.
//
// Between two plain TCP connections on Linux, a burst is copied through a
// 16 KiB buffer at first, and spliced through a pipe from 16 KiB on: splicing
// costs more system calls for a small message and saves two copies of a large
// one. Everything else is copied through 16 KiB. CPU per echo, so for two
// messages, without what the ends need by themselves (BenchmarkEcho, medians of
// five, Linux 6.18, two cores of a Xeon in a virtual machine shared with other
// work, Go 1.26; smallest differences are noise):
//
//	message    always copied    always spliced    as it is    io.Copy
//	64 B       6.4 µs           7.4 µs            6.8 µs      7.2 µs
//	4 KiB      4.9 µs           7.1 µs            4.0 µs      4.9 µs
//	64 KiB     29 µs            11 µs             10 µs       10 µs
//
// A stream of 64 KiB writes takes 11 µs for each above the ends, 18 if copied.
// The last column is the standard library, which splices as well, but holds a
// pipe for each direction as long as the tunnel lasts.
//
// Chunks cost no allocation, but for the one that crypto/tls makes for each
// record it reads. There are at most 200 pipes; a burst that finds none is
// copied and counted (PipesRefused). A pipe is held while a slow target is waited
// for. Where the kernel refuses to splice, everything is copied.
//
// # How a tunnel ends
//
// A side that ends its direction: the other is told (FIN, close_notify) and may
// go on until it ends too or is silent for Settings.HalfClosed. The cause is who
// ended first.
//
// A side that breaks off, such as with a reset: the other is reset, so that it
// does not take a broken stream for a whole one. When only writing to a side
// fails, what came from it before is still handed over.
//
// Silence: the tunnel ends when nothing has moved either way for Settings.Idle.
// Bytes one way keep it alive. It also ends when a side takes nothing for as
// long of what waits for it, whatever moves the other way; that side is reset.
// Bytes set no deadlines, they note the time; one timer looks at it once per
// period, so the limit is exact to a timer's precision.
//
// Close, and Settings.MaxDuration: at once, for both, without more ado. A tunnel
// knows nothing of the protocol and cannot take leave in it.
package tunnel
