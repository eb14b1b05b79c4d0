package stub

import (
	"bufio"
	"crypto/sha1" // #nosec -- the handshake of RFC 6455 is defined with it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/valyala/fasthttp"
)

// messageBytesMax bounds one frame of a WebSocket.
const messageBytesMax = 1 << 20

// Opcodes of RFC 6455, section 5.2.
const (
	opClose = 8
	opPing  = 9
	opPong  = 10
)

var errFrame = errors.New("the frame is not masked or too large")

// upgrade answers the handshake of RFC 6455 and echoes frames, continued ones frame by
// frame, until the client closes.
func upgrade(ctx *fasthttp.RequestCtx) {
	key := string(ctx.Request.Header.Peek("Sec-WebSocket-Key"))
	if !strings.EqualFold(string(ctx.Request.Header.Peek("Upgrade")), "websocket") || key == "" {
		ctx.Error("/ws: want the handshake of a WebSocket\n", fasthttp.StatusBadRequest)
		return
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // #nosec -- see above
	ctx.SetStatusCode(fasthttp.StatusSwitchingProtocols)
	ctx.Response.Header.Set("Upgrade", "websocket")
	ctx.Response.Header.Set("Connection", "Upgrade")
	ctx.Response.Header.Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
	ctx.Hijack(func(c net.Conn) { _ = echoFrames(c) }) // an error is the end of the peer
}

func echoFrames(c net.Conn) error {
	in := bufio.NewReader(c)
	var out []byte
	for {
		first, payload, err := readFrame(in)
		if err != nil {
			return err
		}
		switch first & 0x0f {
		case opPong:
			continue
		case opPing:
			first = first&0xf0 | opPong
		}
		out = appendFrame(out[:0], first, payload)
		if _, err := c.Write(out); err != nil {
			return err
		}
		if first&0x0f == opClose {
			return nil
		}
	}
}

// readFrame returns the first byte of a client's frame and its payload without the mask.
func readFrame(in *bufio.Reader) (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1] & 0x7f)
	if extra := map[uint64]int{126: 2, 127: 8}[length]; extra > 0 {
		var wide [8]byte
		if _, err := io.ReadFull(in, wide[8-extra:]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(wide[:])
	}
	if head[1]&0x80 == 0 || length > messageBytesMax {
		return 0, nil, errFrame
	}
	var mask [4]byte
	if _, err := io.ReadFull(in, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload, nil
}

// appendFrame appends a server's frame to dst.
func appendFrame(dst []byte, first byte, payload []byte) []byte {
	dst = append(dst, first)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
	return append(dst, payload...)
}
