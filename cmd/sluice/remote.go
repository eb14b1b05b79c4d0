package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
)

// remoteTimeout bounds a call of a running gateway; a large document takes its
// time to compile.
const remoteTimeout = 2 * time.Minute

// answerBytesMax bounds what is read of an answer.
const answerBytesMax = 16 << 20

// remote is a listener of a running gateway.
type remote struct {
	name   string // for messages: Admin or status
	base   string // URL without path
	client *http.Client
}

// remoteAt returns the listener at an address the operator gave: host:port, a
// URL, or unix:/path.
func remoteAt(name, address string) *remote {
	l, err := config.ParseListener(address)
	if err == nil {
		return remoteOf(name, &l)
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	return &remote{name: name, base: strings.TrimSuffix(address, "/"), client: &http.Client{Timeout: remoteTimeout}}
}

// remoteOf returns the listener a document describes, as this machine reaches it.
func remoteOf(name string, l *config.Listener) *remote {
	r := &remote{name: name, client: &http.Client{Timeout: remoteTimeout}}
	scheme := "http://"
	if l.SSL {
		scheme = "https://"
	}
	if l.Unix != "" {
		r.base = scheme + "localhost"
		r.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", l.Unix)
		}}
		return r
	}
	host := l.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	r.base = scheme + net.JoinHostPort(host, strconv.Itoa(l.Port))
	return r
}

// call sends one request and returns status and body. Its error is worded for
// the operator.
func (r *remote) call(method, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(context.Background(), method, r.base+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
			return 0, nil, fmt.Errorf("no gateway listens at %s: is it running, and is this its %s listener?", r.base, r.name)
		}
		return 0, nil, fmt.Errorf("asking the %s listener: %w", r.name, err)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}

// listenerOf finds a listener of a running gateway: the flag's, else the first
// one of the document, else the default. A document that cannot be read is no
// reason to fail: mending it may be why the gateway is asked.
func listenerOf(name, flag string, doc *documentFlags, pick func(*config.Gateway) config.Listeners) (*remote, error) {
	if flag != "" {
		return remoteAt(name, flag), nil
	}
	d, err := doc.read()
	if err != nil {
		if d, err = config.Read(nil, doc.options()); err != nil { // the environment still counts
			return nil, err
		}
	}
	ls := pick(&d.Gateway)
	if len(ls) == 0 {
		return nil, fmt.Errorf("gateway.%s_listen is off: the running gateway cannot be asked", strings.ToLower(name))
	}
	return remoteOf(name, &ls[0]), nil
}
