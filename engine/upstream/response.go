package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// interimMax bounds the 1xx responses one answer may be preceded by.
const interimMax = 16

var errNotHTTP = errors.New("not a response that may be passed on")

// readHead reads the header of the final response into resp.
func readHead(c *conn, resp *fasthttp.Response) error {
	br := c.reader()
	for range interimMax {
		if err := resp.Header.Read(br); err != nil {
			return err
		}
		status := resp.StatusCode()
		switch {
		case status >= 200:
			return nil
		case status == fasthttp.StatusSwitchingProtocols || status < 100:
			return errNotHTTP // nothing was asked to be upgraded
		}
		pipeline.ClearResponse(resp)
	}
	return errNotHTTP
}

// hasBody applies RFC 9112 section 6.3: some answers end with their header.
func hasBody(x *pipeline.Exchange, status int) bool {
	return !x.Ctx.IsHead() && status != fasthttp.StatusNoContent && status != fasthttp.StatusNotModified
}

// body reads the response body from the connection until the framing says it
// has ended, then gives the connection back. It is the response's body stream;
// one goroutine reads it. Close before the end closes the connection.
type body struct {
	c       *conn
	br      *bufio.Reader
	timeout time.Duration
	// left counts the bytes of the body, or of the chunk being read, to come;
	// -1: up to the end of the connection.
	left    int64
	chunked bool
	started bool // a chunk has been read: its CRLF is due
	done    bool
	reuse   bool
}

var errBroken = errors.New("the service broke off its response")

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	if err := b.c.arm(pipeline.Now(), b.timeout); err != nil {
		return 0, err
	}
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil {
			return 0, err
		}
		if b.done {
			return 0, io.EOF
		}
	}
	if b.left >= 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.br.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case err == io.EOF && b.left < 0:
		b.reuse = false
		b.finish()
		return n, io.EOF
	case err == io.EOF:
		return n, errBroken
	case b.left == 0 && !b.chunked:
		b.finish()
	}
	return n, err
}

// nextChunk reads a chunk's size line, or the end of the body.
func (b *body) nextChunk() error {
	if b.started {
		if err := b.expectCRLF(); err != nil {
			return err
		}
	}
	b.started = true
	size, err := readChunkSize(b.br)
	if err != nil {
		return err
	}
	if b.left = size; size > 0 {
		return nil
	}
	if err := skipTrailer(b.br); err != nil {
		return err
	}
	b.finish()
	return nil
}

func (b *body) expectCRLF() error {
	crlf, err := b.br.Peek(2)
	if err != nil {
		return errBroken
	}
	if crlf[0] != '\r' || crlf[1] != '\n' {
		return errNotHTTP
	}
	_, err = b.br.Discard(2)
	return err
}

// finish gives the connection back.
func (b *body) finish() {
	b.done = true
	if b.reuse {
		b.c.release(pipeline.Now())
	} else {
		b.c.close()
	}
}

// Detach hands what is left of the body over to the reader it returns: closing b
// does nothing any more. For wrapping a response's body stream, which fasthttp
// closes when it is replaced.
func (b *body) Detach() io.Reader {
	rest := *b
	b.done = true
	return &rest
}

// Close implements io.Closer.
func (b *body) Close() error {
	if !b.done {
		b.done = true
		b.c.close()
	}
	return nil
}

// readChunkSize reads the line before a chunk (RFC 9112 section 7.1).
func readChunkSize(br *bufio.Reader) (int64, error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return 0, errBroken
	}
	size, ok := chunkSize(line)
	if !ok {
		return 0, errNotHTTP
	}
	return size, nil
}

// chunkSize reads the size from the line before a chunk, its LF included.
func chunkSize(line []byte) (size int64, ok bool) {
	const digitsMax = 15 // no overflow of int64
	i := 0
	for ; i < len(line); i++ {
		d, ok := hexDigit(line[i])
		if !ok {
			break
		}
		size = size<<4 | d
	}
	if i == 0 || i > digitsMax || i == len(line) || len(line) < 2 || line[len(line)-2] != '\r' {
		return 0, false
	}
	for line[i] == ' ' || line[i] == '\t' {
		i++ // "bad whitespace", which a recipient must accept
	}
	return size, line[i] == ';' || line[i] == '\r' && i == len(line)-2
}

func hexDigit(c byte) (int64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10, true
	}
	return 0, false
}

// skipTrailer reads the trailer section and its empty line. Trailer fields are
// not passed on yet, which RFC 9110 section 6.5.1 allows.
func skipTrailer(br *bufio.Reader) error {
	const linesMax = 64
	for range linesMax {
		line, err := br.ReadSlice('\n')
		switch {
		case err != nil:
			return errBroken
		case string(line) == "\r\n":
			return nil
		case len(line) < 2 || line[len(line)-2] != '\r':
			return errNotHTTP
		}
	}
	return errNotHTTP
}

// takeChunks makes a chunked body that has arrived whole, as most small ones
// have, the buffered body of resp. Otherwise it takes nothing and returns false.
func takeChunks(br *bufio.Reader, resp *fasthttp.Response) bool {
	arrived, err := br.Peek(br.Buffered())
	if err != nil || !bytes.HasSuffix(arrived, []byte("\r\n0\r\n\r\n")) && !bytes.Equal(arrived, []byte("0\r\n\r\n")) {
		return false
	}
	for rest := arrived; ; {
		line := bytes.IndexByte(rest, '\n')
		size, ok := chunkSize(rest[:line+1])
		rest = rest[line+1:]
		switch {
		case !ok || size+2 > int64(len(rest)) || rest[size] != '\r' || rest[size+1] != '\n':
			resp.ResetBody()
			return false
		case size == 0 && len(rest) == 2:
			_, err := br.Discard(len(arrived))
			return err == nil
		case size == 0:
			resp.ResetBody()
			return false // trailer fields, or more than one answer
		}
		resp.AppendBody(rest[:size])
		rest = rest[size+2:]
	}
}
