package downstream

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Peer is what is known of a connection before any request is read.
// Immutable once the connection serves requests.
type Peer struct {
	IP         netip.Addr // unmapped; zero for a unix socket
	ClientPort uint16
	LocalIP    netip.Addr
	Port       uint16 // the port the client connected to
	TLS        bool
	SNI        string
	ID         uint64 // numbers the connections of this process
}

// NewPeer returns what the addresses of a connection tell.
func NewPeer(remote, local net.Addr) Peer {
	var p Peer
	p.IP, p.ClientPort = split(remote)
	p.LocalIP, p.Port = split(local)
	return p
}

func split(a net.Addr) (netip.Addr, uint16) {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return ap.Addr().Unmap().WithZone(""), ap.Port()
	}
	if a != nil {
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			return ap.Addr().Unmap(), ap.Port()
		}
	}
	return netip.Addr{}, 0
}

// peerConn is a connection that knows its Peer and may have bytes in hand that
// were read from it before.
type peerConn struct {
	net.Conn
	peer Peer
	held []byte

	ended        bool        // used by the goroutine that reads
	yield        sync.Locker // unlocked while reading waits; nil: none
	takeover     takeover
	closing      atomic.Bool
	writeTimeout time.Duration
	writeBy      int64 // deadline armed for writes, a Now value
}

// Read implements net.Conn.
func (c *peerConn) Read(b []byte) (int, error) {
	if len(c.held) > 0 {
		n := copy(b, c.held)
		if c.held = c.held[n:]; len(c.held) == 0 {
			c.held = nil
		}
		return n, nil
	}
	return readNoting(c.Conn, b, &c.ended, c.yield)
}

// readNoting reads from c and notes its end, which fasthttp does not tell from
// the end of a body. Bytes that come with the end are returned without it.
func readNoting(c net.Conn, b []byte, ended *bool, yield sync.Locker) (int, error) {
	if yield != nil {
		yield.Unlock()
	}
	n, err := c.Read(b)
	if yield != nil {
		yield.Lock()
	}
	if err == io.EOF {
		if n > 0 {
			return n, nil
		}
		*ended = true
	}
	return n, err
}

// YieldReads makes reading, which is to be done with l locked, unlock it while it waits;
// nil ends that. To be called while nobody reads.
func (c *peerConn) YieldReads(l sync.Locker) { c.yield = l }

// YieldReads makes reading, which is to be done with l locked, unlock it while it waits;
// nil ends that. To be called while nobody reads.
func (c *tlsConn) YieldReads(l sync.Locker) { c.yield = l }

// Ended reports whether the client has ended the connection.
func (c *peerConn) Ended() bool { return c.ended }

// Ended reports whether the client has ended the connection.
func (c *tlsConn) Ended() bool { return c.ended }

// Read implements net.Conn.
func (c *tlsConn) Read(b []byte) (int, error) { return readNoting(c.Conn, b, &c.ended, c.yield) }

// Close implements net.Conn.
func (c *peerConn) Close() error {
	if !c.closing.Swap(true) {
		linger(c.Conn)
	}
	return c.Conn.Close()
}

// Close implements net.Conn.
func (c *tlsConn) Close() error {
	if !c.closing.Swap(true) && c.CloseWrite() == nil {
		linger(c.NetConn())
	}
	return c.Conn.Close()
}

// linger ends our side of c and reads on until the client is done, for a while (nginx:
// lingering_close). A client that is still sending when it is answered would lose the
// answer to the reset that closing with unread bytes causes.
func linger(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if p, behind := c.(interface{ TCPConn() (*net.TCPConn, bool) }); behind { // a PROXY header
		tcp, ok = p.TCPConn()
	}
	if ok && tcp.CloseWrite() == nil && tcp.SetReadDeadline(time.Now().Add(lingerTimeout)) == nil {
		_, _ = io.Copy(io.Discard, onlyReader{tcp}) // whatever ends it, the connection is over
	}
}

// lingerTimeout bounds how long a closing connection is read from.
const lingerTimeout = 3 * time.Second

// onlyReader hides what else a connection can do, so that io.Copy just reads.
type onlyReader struct{ io.Reader }

// tlsConn is a peerConn over TLS; fasthttp recognizes it by these methods.
type tlsConn struct {
	*tls.Conn
	peer Peer

	ended        bool        // used by the goroutine that reads
	yield        sync.Locker // unlocked while reading waits; nil: none
	takeover     takeover
	closing      atomic.Bool
	writeTimeout time.Duration
	writeBy      int64
}

// Write implements net.Conn: a client has writeTimeout to take each piece.
func (c *tlsConn) Write(b []byte) (int, error) {
	return writePieces(c.Conn, b, c.writeTimeout, &c.writeBy)
}

// Write implements net.Conn: a client has writeTimeout to take each piece.
func (c *peerConn) Write(b []byte) (int, error) {
	return writePieces(c.Conn, b, c.writeTimeout, &c.writeBy)
}

// pieceBytes is what a client must take within the write timeout.
const pieceBytes = 64 << 10

// writePieces writes b, giving the client timeout for each piece of it.
func writePieces(c net.Conn, b []byte, timeout time.Duration, by *int64) (int, error) {
	written := 0
	for {
		if err := armWrite(c, timeout, by); err != nil {
			return written, err
		}
		piece := b[written:min(len(b), written+pieceBytes)]
		n, err := c.Write(piece)
		if written += n; err != nil || written == len(b) {
			return written, err
		}
	}
}

// armWrite makes writes fail timeout from now, up to a second later: deadlines
// cost a lock and a timer each, so one that is far enough stays.
func armWrite(c net.Conn, timeout time.Duration, by *int64) error {
	now := pipeline.Now()
	if *by >= now+int64(timeout) {
		return nil
	}
	*by = now + int64(timeout+time.Second)
	return c.SetWriteDeadline(time.Now().Add(timeout + time.Second))
}

// PeerOf returns what is known of c, if it is a connection of this package.
// The Peer of a TLS connection is complete once its handshake is.
func PeerOf(c net.Conn) (*Peer, bool) {
	switch c := c.(type) {
	case *peerConn:
		return &c.peer, true
	case *tlsConn:
		return &c.peer, true
	}
	return nil, false
}
