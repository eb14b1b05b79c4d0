package downstream

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// Tunnel lets run have the client's connection once the answer of ctx, which is a 101,
// has been sent. run gets the connection itself, so that its bytes can be passed on
// without copying where it is plain TCP, and what has been read from it beyond the
// request. If the answer cannot be sent, dropped is called in its place. ctx stays valid
// until the one that is called returns; the connection is over then.
func (s *Server) Tunnel(ctx *fasthttp.RequestCtx, run func(client net.Conn, pending []byte), dropped func()) {
	c := ctx.Conn()
	if t := takeoverOf(c); t != nil {
		t.dropped = dropped
	}
	ctx.Hijack(func(buffered net.Conn) {
		defer s.connEnded()
		defer func() {
			if r := recover(); r != nil {
				s.Log.Error("panic in a tunnel", "panic", r)
				_ = c.Close() // no more can be done for it
			}
		}()
		pending := drain(buffered)
		client := c
		switch c := c.(type) {
		case *peerConn:
			client = c.Conn
		case *tlsConn:
			client = c.Conn
		}
		run(client, pending)
	})
}

// takeover is what is known of the tunnel that a connection becomes. It is used by the
// goroutine of serveGeneral.
type takeover struct {
	hijacked bool   // a tunnel has the connection
	dropped  func() // told if none gets it; nil: none was to
}

// takeoverOf returns that of c, nil if c is not a connection of this package.
func takeoverOf(c net.Conn) *takeover {
	switch c := c.(type) {
	case *peerConn:
		return &c.takeover
	case *tlsConn:
		return &c.takeover
	}
	return nil
}

// end reports whether a tunnel has the connection, which is served no more.
func (t *takeover) end() bool {
	if !t.hijacked && t.dropped != nil {
		t.dropped()
	}
	return t.hijacked
}

// drain takes what is buffered of a connection, without waiting for more.
func drain(c net.Conn) []byte {
	_ = c.SetReadDeadline(time.Unix(1, 0)) // a closed connection has nothing more either
	var pending []byte
	buf := make([]byte, 4<<10)
	for {
		n, err := c.Read(buf)
		pending = append(pending, buf[:n]...)
		if err != nil {
			return pending
		}
	}
}
