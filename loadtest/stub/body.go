package stub

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// block is one mebibyte of the fixed sequence, which repeats it. It is never written to.
var block = func() []byte {
	b := make([]byte, 1<<20)
	state := uint32(1)
	for i := range b {
		state = state*1664525 + 1013904223 // a linear congruential generator
		b[i] = byte(state >> 24)
	}
	return b
}()

// Append appends the first n bytes of the fixed sequence to dst.
func Append(dst []byte, n int) []byte {
	for n > 0 {
		part := block[:min(n, len(block))]
		dst = append(dst, part...)
		n -= len(part)
	}
	return dst
}

// sequence reads what is left of a body.
type sequence struct{ at, left int }

func (s *sequence) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.left)], block[s.at:])
	s.at = (s.at + n) % len(block)
	s.left -= n
	return n, nil
}

// events streams: each event is flushed by itself, so that a gateway which holds back
// what it reads is noticed by the time of the first.
func events(ctx *fasthttp.RequestCtx) {
	args := ctx.QueryArgs()
	n := min(args.GetUintOrZero("n"), EventsMax)
	every := min(time.Duration(args.GetUintOrZero("every"))*time.Millisecond, DelayMax)
	ctx.SetContentType("text/event-stream")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ended := ctx.Done() // the context itself is another request's by then
	ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		for i := range n {
			if i > 0 {
				wait(ended, every)
			}
			_, err := fmt.Fprintf(w, "id: %d\ndata: event %d of %d\n\n", i, i, n)
			if err != nil || w.Flush() != nil {
				return // the reader has gone
			}
		}
	})
}

// upload answers with the body that came, or with its length and digest.
func upload(ctx *fasthttp.RequestCtx, how string) {
	in := ctx.RequestBodyStream()
	if in == nil {
		ctx.Error("/"+how+": want a body\n", fasthttp.StatusBadRequest)
		return
	}
	in = io.LimitReader(in, uploadBytesMax+1)
	if how == "echo" {
		body, err := io.ReadAll(in)
		if err != nil || len(body) > uploadBytesMax {
			ctx.Error("/echo: the body broke off or is too large\n", fasthttp.StatusBadRequest)
			return
		}
		ctx.SetContentType("application/octet-stream")
		ctx.Response.SetBodyRaw(body)
		return
	}
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil || n > uploadBytesMax {
		ctx.Error("/digest: the body broke off or is too large\n", fasthttp.StatusBadRequest)
		return
	}
	ctx.SetBodyString(strconv.FormatInt(n, 10) + " " + hex.EncodeToString(sum.Sum(nil)) + "\n")
}
