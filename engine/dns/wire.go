package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// udpBytesMax is what servers are told to send at most: it passes any path
	// unfragmented, and fragments can be forged.
	udpBytesMax = 1232
	// readBytesMax is for servers that send more than they were told.
	readBytesMax = 4096
	// ignoredMax is how many wrong replies one try bears before it turns to TCP,
	// where they cannot be guessed.
	ignoredMax = 64
	headBytes  = 12
)

// exchange sends a question to a server and returns the reply to it, whatever
// its code. It must return when ctx is done and leave q as it is.
type exchange func(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error)

// wire is the exchange over the network.
type wire struct{ counts *counts }

var buffers = sync.Pool{New: func() any { b := make([]byte, readBytesMax); return &b }}

// question returns a question for a recursive server.
func question(name string, typ uint16) *dns.Msg {
	q := &dns.Msg{}
	q.RecursionDesired = true
	q.Question = []dns.Question{{Name: name + ".", Qtype: typ, Qclass: dns.ClassINET}}
	q.SetEdns0(udpBytesMax, false)
	return q
}

func (w *wire) exchange(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
	reply, err := w.withID(ctx, server, q)
	if err != nil || len(q.Extra) == 0 {
		return reply, err
	}
	switch reply.Rcode {
	case dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers:
		// An old server that takes exception to EDNS.
		plain := *q
		plain.Extra = nil
		return w.withID(ctx, server, &plain)
	}
	return reply, nil
}

// withID asks over UDP, and over TCP if the reply does not fit or others try to
// answer in its place.
func (w *wire) withID(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
	m := *q
	m.Id = dns.Id()
	b, err := m.Pack()
	if err != nil {
		return nil, err
	}
	reply, err := w.overUDP(ctx, server, &m, b)
	if err != nil || reply != nil {
		return reply, err
	}
	w.counts.overTCP.Add(1)
	m.Id = dns.Id()
	binary.BigEndian.PutUint16(b, m.Id)
	return overTCP(ctx, server, &m, b)
}

// dial opens a socket of its own, and so a port nobody can guess, for a question.
// It is closed by the returned function, and cut short when ctx is done.
func dial(ctx context.Context, network, server string) (net.Conn, func(), error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, nil, err
	}
	if t, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(t); err != nil {
			_ = c.Close() // nothing was sent
			return nil, nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(1, 0)) // it fails if c is closed, which does as well
	})
	return c, func() { stop(); _ = c.Close() }, nil // the reply is read or given up
}

// overUDP returns no reply and no error if TCP must be used.
func (w *wire) overUDP(ctx context.Context, server string, q *dns.Msg, b []byte) (*dns.Msg, error) {
	c, done, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	for range ignoredMax {
		n, err := c.Read(*p)
		if err != nil {
			return nil, err
		}
		reply, cut, ok := match(q, (*p)[:n])
		if cut || ok {
			return reply, nil
		}
		w.counts.ignored.Add(1)
	}
	return nil, nil
}

// overTCP asks over TCP.
func overTCP(ctx context.Context, server string, q *dns.Msg, b []byte) (*dns.Msg, error) {
	c, done, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	in := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, in); err != nil {
		return nil, err
	}
	reply, _, ok := match(q, in)
	if !ok {
		return nil, errWrongReply
	}
	return reply, nil
}

var errWrongReply = errors.New("it answers another question")

// match returns the reply in b if it is one to q. It reports a cut one, of which
// nothing is used, as cut.
func match(q *dns.Msg, b []byte) (reply *dns.Msg, cut, ok bool) {
	if len(b) < headBytes || binary.BigEndian.Uint16(b) != q.Id {
		return nil, false, false
	}
	m := &dns.Msg{}
	err := m.Unpack(b)
	if !m.Response || m.Opcode != dns.OpcodeQuery {
		return nil, false, false
	}
	bare := len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
	if !bare && !sameQuestion(q.Question[0], m.Question) {
		return nil, false, false
	}
	if m.Truncated {
		return nil, true, false
	}
	return m, false, err == nil
}

func sameQuestion(q dns.Question, got []dns.Question) bool {
	return len(got) == 1 && got[0].Qtype == q.Qtype && got[0].Qclass == q.Qclass && strings.EqualFold(got[0].Name, q.Name)
}
