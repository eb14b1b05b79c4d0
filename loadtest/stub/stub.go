// Package stub is the service behind the gateway in load tests: every answer is known in
// advance, so that an answer seen through a gateway can be compared by its digest.
//
//	GET  /bytes/N                    N bytes of a fixed sequence, at most BodyBytesMax
//	GET  /delay/MS                   "ok" after MS milliseconds, at most DelayMax
//	GET  /events?n=10&every=100      n server-sent events, every so many milliseconds
//	GET  /cacheable/NAME?ttl=60&delay=0&bytes=1024   with Cache-Control and ETag
//	GET  /ws                         WebSocket, echoes messages
//	POST /echo                       the body that came
//	POST /digest                     its length and SHA-256, in hexadecimal
//	GET  /counts?prefix=/cacheable/  requests so far, as JSON; never counted itself
//	POST /fail?status=503&n=10       the next n requests fail; n=-1: all, n=0: none any more
//	POST /fail?wrong=1&n=10          the next n bodies of the fixed sequence have a wrong byte
//	GET  /health                     "ok", unless told to fail
package stub

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// Limits of what one request may ask for.
const (
	BodyBytesMax = 64 << 20
	DelayMax     = 60 * time.Second
	EventsMax    = 100_000

	uploadBytesMax = 64 << 20
	headerBytesMax = 16 << 10
	connectionsMax = 20_000
)

// Service is one stub. Its methods may be called concurrently.
type Service struct {
	server  *fasthttp.Server
	counts  counts
	failing failing
}

// New returns a service that does not listen yet.
func New() *Service {
	s := &Service{counts: counts{paths: map[string]int64{}}}
	s.server = &fasthttp.Server{
		Handler:               s.serve,
		Name:                  "stub",
		StreamRequestBody:     true,
		MaxRequestBodySize:    uploadBytesMax,
		ReadBufferSize:        headerBytesMax,
		Concurrency:           connectionsMax,
		NoDefaultServerHeader: true,
		CloseOnShutdown:       true,
	}
	return s
}

// Serve answers connections of l until Shutdown, which closes l.
func (s *Service) Serve(l net.Listener) error { return s.server.Serve(l) }

// Shutdown ends Serve and returns when open requests are answered. Hijacked
// connections, which are those of WebSocket, stay until their peers close them.
func (s *Service) Shutdown() error { return s.server.Shutdown() }

func (s *Service) serve(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	switch path {
	case "/counts":
		s.counts.answer(ctx)
		return
	case "/fail":
		s.failing.order(ctx)
		return
	}
	s.counts.add(path)
	if status := s.failing.status(); status != 0 {
		ctx.Error("failing as told\n", status)
		return
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "bytes":
		s.bytes(ctx, rest)
	case "cacheable":
		s.cacheable(ctx)
	case "delay":
		delay(ctx, rest)
	case "events":
		events(ctx)
	case "ws":
		upgrade(ctx)
	case "echo", "digest":
		upload(ctx, first)
	case "health":
		ctx.SetBodyString("ok\n")
	default:
		ctx.Error("no such path: "+path+"\n", fasthttp.StatusNotFound)
	}
}

func (s *Service) bytes(ctx *fasthttp.RequestCtx, text string) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > BodyBytesMax {
		ctx.Error("/bytes/"+text+": want a number of bytes from 0 to "+strconv.Itoa(BodyBytesMax)+"\n", fasthttp.StatusBadRequest)
		return
	}
	s.body(ctx, n)
}

// body answers with the first n bytes of the sequence, one of them wrong if so told.
func (s *Service) body(ctx *fasthttp.RequestCtx, n int) {
	ctx.SetContentType("application/octet-stream")
	wrong := n > 0 && s.failing.wrong()
	switch {
	case wrong:
		body := Append(nil, n)
		body[n/2] ^= 1
		ctx.Response.SetBodyRaw(body)
	case n <= len(block):
		ctx.Response.SetBodyRaw(block[:n])
	default:
		ctx.SetBodyStream(&sequence{left: n}, n)
	}
}

func (s *Service) cacheable(ctx *fasthttp.RequestCtx) {
	args := ctx.QueryArgs()
	ttl := args.GetUintOrZero("ttl")
	n := 1024
	if args.Has("bytes") {
		n = min(args.GetUintOrZero("bytes"), BodyBytesMax)
	}
	if !args.Has("ttl") {
		ttl = 60
	}
	wait(ctx.Done(), time.Duration(args.GetUintOrZero("delay"))*time.Millisecond)
	ctx.Response.Header.Set("Cache-Control", "public, max-age="+strconv.Itoa(ttl))
	ctx.Response.Header.Set("ETag", `"`+strconv.Itoa(n)+`"`)
	s.body(ctx, n)
}

func delay(ctx *fasthttp.RequestCtx, text string) {
	ms, err := strconv.Atoi(text)
	d := time.Duration(ms) * time.Millisecond
	if err != nil || d < 0 || d > DelayMax {
		ctx.Error("/delay/"+text+": want milliseconds from 0 to "+strconv.FormatInt(DelayMax.Milliseconds(), 10)+"\n", fasthttp.StatusBadRequest)
		return
	}
	wait(ctx.Done(), d)
	ctx.SetBodyString("ok\n")
}

// wait returns after d, at most DelayMax, or when ended is closed.
func wait(ended <-chan struct{}, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(min(d, DelayMax))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ended:
	}
}
