package pipeline

import (
	"bufio"
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// This file is for plugins that answer with what the service has answered before.

// Fields are the header of a kept answer as it goes over the wire: lines with their CRLF,
// names in canonical form, none that frames the body. The bytes are their owner's.
type Fields struct {
	Text []byte
	// Lens has bit n set where a name has n bytes, modulo 64: with it most answers need
	// not be read line by line. 0 where that is not known.
	Lens uint64
}

// LensOf returns the Lens of fields.
func LensOf(fields []byte) (lens uint64) {
	for len(fields) > 0 {
		var name []byte
		name, _, fields = CutField(fields)
		lens |= lenBit(len(name))
	}
	return lens
}

func lenBit(n int) uint64 { return 1 << (n & 63) }

// AnswerStored makes an answer that was kept the answer of x and returns Done. fields and
// body must stay as they are until the user values of the request are closed.
func (x *Exchange) AnswerStored(status int, fields Fields, body []byte) Verdict {
	x.storedHead(status, fields)
	if x.Raw {
		x.Ctx.Response.SetBodyRaw(body)
	} else {
		x.Ctx.Response.AppendBody(body) // sent after the Log hooks
	}
	return Done
}

// AnswerStoredStream is AnswerStored with a body that is read as it is sent: of size
// bytes, or in chunks where size is -1. It is closed when it has been sent.
func (x *Exchange) AnswerStoredStream(status int, fields Fields, body io.ReadCloser, size int) Verdict {
	x.storedHead(status, fields)
	x.Ctx.Response.SetBodyStream(body, size)
	x.Ctx.Response.ImmediateHeaderFlush = size < 0
	return Done
}

// AnswerStoredHead is AnswerStored without the body, which has size bytes: for HEAD.
func (x *Exchange) AnswerStoredHead(status int, fields Fields, size int) Verdict {
	x.storedHead(status, fields)
	x.Ctx.Response.SkipBody = true
	x.Ctx.Response.Header.SetContentLength(size)
	return Done
}

func (x *Exchange) storedHead(status int, fields Fields) {
	resp := &x.Ctx.Response
	x.Source = SourceCache
	if x.Raw { // Fast path.
		ClearResponse(resp)
		resp.SetStatusCode(status)
		x.fields = fields
		return
	}
	// Not cleared: a header that has been has forgotten not to make up a Date.
	resp.ResetBody()
	resp.SkipBody, resp.ImmediateHeaderFlush = false, false
	r := fieldReaders.Get().(*fieldReader)
	r.read(&resp.Header, fields.Text)
	fieldReaders.Put(r)
	resp.SetStatusCode(status)
	if status == fasthttp.StatusNotModified {
		resp.Header.Del(fasthttp.HeaderContentLength) // of the answer that it stands for
	}
}

// fieldReader reads kept fields back: fasthttp keeps a Date field only if it has read it.
type fieldReader struct {
	text []byte
	src  bytes.Reader
	br   *bufio.Reader
}

// fieldsMax bounds the fields of a stored answer, beside the lines that frame them.
const fieldsMax = 64 << 10

var fieldReaders = sync.Pool{New: func() any { return &fieldReader{br: bufio.NewReaderSize(nil, fieldsMax+256)} }}

func (r *fieldReader) read(h *fasthttp.ResponseHeader, fields []byte) {
	r.text = append(append(r.text[:0], "HTTP/1.1 200 OK\r\n"...), fields...)
	r.text = append(r.text, "Content-Length: 0\r\n\r\n"...)
	r.src.Reset(r.text)
	r.br.Reset(&r.src)
	if err := h.Read(r.br); err != nil {
		panic("BUG: fields of a stored answer cannot be read: " + err.Error())
	}
	h.SetNoDefaultContentType(true)
}

// CutField cuts the first line off a block of header fields; value is without the space
// before it. The results lie in fields.
func CutField(fields []byte) (name, value, rest []byte) {
	line, rest, _ := bytes.Cut(fields, crlf)
	name, value, _ = bytes.Cut(line, colon)
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return name, value, rest
}

var crlf, colon = []byte("\r\n"), []byte{':'}

// appendFields appends the fields of a stored answer but for those that staged ones
// take the place of.
func (x *Exchange) appendFields(dst []byte) []byte {
	f := &x.fields
	if len(x.staged) == 0 || f.Lens != 0 && f.Lens&x.stagedLens == 0 { // Fast path.
		return append(dst, f.Text...)
	}
	for rest := f.Text; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if name := bytes.IndexByte(rest, ':'); !x.Staged(rest[:name]) {
			dst = append(dst, rest[:end]...)
		}
		rest = rest[end:]
	}
	return dst
}

// AnswerField returns the first field of the answer with that canonical name, before
// staged ones are applied; nil if there is none. The bytes belong to the answer.
func (x *Exchange) AnswerField(name []byte) []byte {
	f := &x.fields
	if len(f.Text) == 0 {
		return x.Ctx.Response.Header.PeekCanonical(name)
	}
	if f.Lens != 0 && f.Lens&lenBit(len(name)) == 0 { // Fast path.
		return nil
	}
	for rest := f.Text; len(rest) > 0; {
		if len(rest) > len(name) && rest[len(name)] == ':' && bytes.Equal(rest[:len(name)], name) {
			_, value, _ := CutField(rest)
			return value
		}
		rest = rest[bytes.IndexByte(rest, '\n')+1:]
	}
	return nil
}

// Copy returns an exchange of its own for the request of x, without a body and without
// an answer, for asking the service while x goes on or after it has ended.
func (x *Exchange) Copy() *Exchange {
	c := &Exchange{}
	c.Reset()
	c.Ctx = &fasthttp.RequestCtx{}
	x.Ctx.Request.Header.CopyTo(&c.Ctx.Request.Header)
	ClearResponse(&c.Ctx.Response)
	c.Route, c.Service, c.RouteIndex = x.Route, x.Service, x.RouteIndex
	c.Path, c.Query, c.HasQuery, c.MatchLen = bytes.Clone(x.Path), bytes.Clone(x.Query), x.HasQuery, x.MatchLen
	c.Pattern, c.PatternSkip = x.Pattern, x.PatternSkip
	c.ClientIP, c.PeerIP, c.TrustedPeer, c.Secure, c.Port = x.ClientIP, x.PeerIP, x.TrustedPeer, x.Secure, x.Port
	c.ConnID, c.RequestID, c.Errors = x.ConnID, x.RequestID, x.Errors
	c.Consumer, c.Credential, c.CorrelationID = x.Consumer, x.Credential, bytes.Clone(x.CorrelationID)
	c.UpstreamPath, c.UpstreamHost = bytes.Clone(x.UpstreamPath), bytes.Clone(x.UpstreamHost)
	c.Timeouts, c.Retry, c.Destination, c.Home = x.Timeouts, x.Retry, x.Destination, x.Home
	c.Start = Now()
	if x.Deadline != 0 {
		c.Deadline = c.Start + max(x.Deadline-x.Start, int64(time.Second))
	}
	return c
}

// Forward sends x's request to its service, as the engine would.
func (x *Exchange) Forward() {
	if x.Destination != nil {
		x.Destination.Forward(x)
		return
	}
	x.Home.Forward(x)
}
