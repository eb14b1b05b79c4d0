package trial

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// head is what the generator and the service need to know of a message's head.
type head struct {
	bytes   int // of the head, its empty line included; 0 while it is incomplete
	status  int // of an answer
	noBody  bool
	closing bool  // the connection ends with the message
	length  int64 // of the body, or one of the two below
}

const (
	chunked    = -1
	untilClose = -2
)

var (
	errHeadTooLarge = fmt.Errorf("a head of more than %d bytes", headBytesMax)
	errStartLine    = errors.New("not the start of an HTTP/1 message")
	errLength       = errors.New("a Content-Length that is no number")
	errChunk        = errors.New("a malformed chunk")
)

var lineEnd = []byte("\r\n")

// parseHead reads the head of an answer or of a request. It returns a head of 0 bytes
// while b does not hold all of it.
func parseHead(b []byte, answer bool) (head, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) > headBytesMax {
			return head{}, errHeadTooLarge
		}
		return head{}, nil
	}
	h := head{bytes: end + 4}
	first, rest, _ := bytes.Cut(b[:end+2], lineEnd)
	if answer {
		if !h.statusLine(first) {
			return head{}, errStartLine
		}
		h.length = untilClose
		h.noBody = h.status < 200 || h.status == 204 || h.status == 304
	} else {
		if !bytes.HasSuffix(first, []byte(" HTTP/1.1")) && !bytes.HasSuffix(first, []byte(" HTTP/1.0")) {
			return head{}, errStartLine
		}
		h.closing = first[len(first)-1] == '0'
	}
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, lineEnd)
		if err := h.field(line); err != nil {
			return head{}, err
		}
	}
	if h.length == untilClose && !h.noBody {
		h.closing = true
	}
	return h, nil
}

// statusLine reads `HTTP/1.1 200 OK`.
func (h *head) statusLine(line []byte) bool {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return false
	}
	h.closing = line[7] == '0'
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return false
		}
		h.status = 10*h.status + int(c-'0')
	}
	return h.status >= 100
}

// field takes note of a field that says where the message ends.
func (h *head) field(line []byte) error {
	// Fast path: the three names have 10, 14 and 17 bytes.
	colon := bytes.IndexByte(line, ':')
	if colon != 10 && colon != 14 && colon != 17 {
		return nil
	}
	name, value := line[:colon], bytes.TrimSpace(line[colon+1:])
	switch {
	case bytes.EqualFold(name, []byte("connection")):
		h.closing = h.closing && !bytes.EqualFold(value, []byte("keep-alive")) || bytes.EqualFold(value, []byte("close"))
	case bytes.EqualFold(name, []byte("content-length")) && h.length != chunked:
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil || n < 0 {
			return errLength
		}
		h.length = n
	case bytes.EqualFold(name, []byte("transfer-encoding")):
		h.length = chunked
	}
	return nil
}

// body follows the bytes of one message's body to its end.
type body struct {
	left int64 // of the body or of the chunk, or one of the constants
	step chunkStep
	line int // bytes of the chunk's line or of the trailer so far
}

type chunkStep uint8

const (
	plain chunkStep = iota
	chunkSize
	chunkExtension
	chunkData
	chunkEnd
	trailerLine
)

// chunkLineMax bounds a line between chunks.
const chunkLineMax = 8 << 10

// begin makes s the body that follows h.
func (s *body) begin(h *head, bodiless bool) {
	*s = body{left: h.length}
	switch {
	case h.noBody || bodiless:
		s.left = 0
	case h.length == chunked:
		*s = body{step: chunkSize}
	}
}

// take consumes b up to the end of the body and calls sink, unless nil, with what
// belongs to its content. It returns how many bytes it consumed and whether the body is
// complete; one that ends with the connection never is.
func (s *body) take(b []byte, sink func([]byte)) (n int, complete bool, err error) {
	if s.step == plain {
		n = len(b)
		if s.left >= 0 {
			n = int(min(int64(n), s.left))
			s.left -= int64(n)
		}
		if sink != nil && n > 0 {
			sink(b[:n])
		}
		return n, s.left == 0, nil
	}
	for n < len(b) {
		if s.step == chunkData {
			part := min(int64(len(b)-n), s.left)
			if sink != nil {
				sink(b[n : n+int(part)])
			}
			n += int(part)
			if s.left -= part; s.left == 0 {
				s.step, s.line = chunkEnd, 0
			}
			continue
		}
		complete, err = s.control(b[n])
		n++
		if complete || err != nil {
			return n, complete, err
		}
	}
	return n, false, nil
}

// control takes one byte of what stands between the contents of chunks.
func (s *body) control(c byte) (complete bool, err error) {
	if s.line++; s.line > chunkLineMax {
		return false, errChunk
	}
	switch s.step {
	case chunkSize, chunkExtension:
		return false, s.sizeByte(c)
	case chunkEnd:
		if s.line == 1 && c == '\r' {
			return false, nil
		}
		if s.line != 2 || c != '\n' {
			return false, errChunk
		}
		s.step, s.line, s.left = chunkSize, 0, 0
	default: // of the trailer: a line with nothing but its end completes the body
		if c == '\n' {
			complete = s.line <= 2
			s.line = 0
		}
	}
	return complete, nil
}

// sizeByte takes one byte of the line that gives a chunk's size.
func (s *body) sizeByte(c byte) error {
	digit := int64(-1)
	switch {
	case c == '\n':
		if s.line < 2 {
			return errChunk
		}
		s.step = chunkData
		if s.left == 0 {
			s.step = trailerLine
		}
		s.line = 0
		return nil
	case s.step == chunkExtension || c == '\r':
		return nil
	case c == ';' || c == ' ' || c == '\t':
		s.step = chunkExtension
		return nil
	case c >= '0' && c <= '9':
		digit = int64(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		digit = int64(c|0x20-'a') + 10
	}
	if digit < 0 || s.left > 1<<50 {
		return errChunk
	}
	s.left = s.left<<4 | digit
	return nil
}
