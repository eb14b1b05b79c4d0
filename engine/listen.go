package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

// proxyHeaderTimeout bounds how long a PROXY header may take to arrive.
const proxyHeaderTimeout = 5 * time.Second

// Listen opens every proxy listener of the live document and serves it. If one
// cannot be opened, none is left open and the error names each that failed.
// Listeners do not change with later documents.
func (e *Engine) Listen() ([]net.Addr, error) {
	var opened []net.Listener
	var errs []error
	specs := e.Document().Gateway.ProxyListen
	for i := range specs {
		if specs[i].SSL && !e.live.Load().Certificates.Any() {
			errs = append(errs, fmt.Errorf("proxy_listen %q: %w", specs[i].String(), snapshot.ErrNoCertificate))
			continue
		}
		l, err := OpenListener(&specs[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("proxy_listen %q: %w", specs[i].String(), err))
			continue
		}
		opened = append(opened, l)
	}
	if err := errors.Join(errs...); err != nil {
		for _, l := range opened {
			_ = l.Close() // never served
		}
		return nil, err
	}
	addrs := make([]net.Addr, len(opened))
	for i, l := range opened {
		addrs[i] = l.Addr()
		if specs[i].ProxyProtocol {
			l = &proxyproto.Listener{Listener: l, ReadHeaderTimeout: proxyHeaderTimeout, ConnPolicy: e.proxyPolicy}
		}
		var t *tls.Config
		if specs[i].SSL {
			t = e.tlsConfig()
		}
		go e.serveListener(l, t)
	}
	return addrs, nil
}

// OpenListener opens the socket of one listener.
func OpenListener(spec *config.Listener) (net.Listener, error) {
	if spec.Unix != "" {
		return net.Listen("unix", spec.Unix)
	}
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true}}
	if spec.ReusePort {
		lc.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			cerr := c.Control(func(fd uintptr) { err = setReusePort(fd) })
			return errors.Join(cerr, err)
		}
	}
	return lc.Listen(context.Background(), "tcp", net.JoinHostPort(spec.Host, strconv.Itoa(spec.Port)))
}

// proxyPolicy believes a PROXY header only from trusted_ips, and there insists
// on one. What anyone else claims is read and ignored.
func (e *Engine) proxyPolicy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	p := downstream.NewPeer(o.Upstream, o.Downstream)
	c := &e.live.Load().Client
	if c.Trusts(p.IP) {
		return proxyproto.REQUIRE, nil
	}
	return proxyproto.IGNORE, nil
}

// tlsConfig looks certificates up in the live snapshot, so that a reload changes them.
func (e *Engine) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return e.live.Load().Certificates.Get(hello)
		},
	}
}

// serveListener serves l until it fails or the engine drains.
func (e *Engine) serveListener(l net.Listener, t *tls.Config) {
	if err := e.server.Serve(l, t); err != nil {
		e.log.Error("listener failed", "address", l.Addr().String(), "error", err)
	}
}

// Replies to requests that could not be read.
var (
	replyHeadTooLarge = pipeline.NewFault(431, "Request header or cookie too large")
	replyHeadTimeout  = pipeline.NewFault(408, "Request timeout")
)

// refuseUnread answers a request the general server could not read.
func (e *Engine) refuseUnread(ctx *fasthttp.RequestCtx, err error) {
	e.malformed.Inc()
	if x := e.awaited(ctx); x != nil {
		e.finish(x) // its body never came
	}
	x := e.acquire(ctx)
	s := e.live.Load()
	x.Start = pipeline.Now()
	x.Errors = s.Errors
	newRequestID(&x.RequestID)
	x.arrival.conn = e.peerOf(ctx)
	x.PeerIP, x.ClientIP = x.arrival.conn.IP, x.arrival.conn.IP
	var tooBig *fasthttp.ErrSmallBuffer
	var ne net.Error
	switch {
	case errors.As(err, &tooBig):
		x.Answer(replyHeadTooLarge)
	case errors.As(err, &ne) && ne.Timeout():
		x.Answer(replyHeadTimeout)
	default:
		x.Answer(replyMalformed)
	}
	e.depart(x, s)
	ctx.Response.SetConnectionClose()
	e.finish(x)
}
