package downstream

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// Tunnel lets run have the client's connection once the answer of ctx, which is a 101,
// has been sent. run gets the connection itself, so that its bytes can be passed on
// without copying where it is plain TCP, and what has been read from it beyond the
// request. ctx stays valid until run returns; the connection is over then.
func (s *Server) Tunnel(ctx *fasthttp.RequestCtx, run func(client net.Conn, pending []byte)) {
	c := ctx.Conn()
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
