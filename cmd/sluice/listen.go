package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

// listeners are the open sockets of one property, such as admin_listen.
type listeners struct {
	property string
	open     []net.Listener
	server   *fasthttp.Server
}

// listenOn opens what a property lists. On error nothing is left open.
func listenOn(property string, specs config.Listeners, certs certificates) (*listeners, error) {
	ls := &listeners{property: property}
	for i := range specs {
		l, err := openListener(&specs[i], certs)
		if err != nil {
			ls.close()
			return nil, fmt.Errorf("%s %q: %w", property, specs[i].String(), err)
		}
		ls.open = append(ls.open, l)
	}
	return ls, nil
}

// certificates are the files of, say, admin_ssl_cert and admin_ssl_cert_key.
type certificates struct {
	property    string
	cert, token []string // token: the keys
}

func openListener(spec *config.Listener, certs certificates) (net.Listener, error) {
	var pair tls.Certificate
	if spec.SSL {
		if len(certs.cert) == 0 || len(certs.token) == 0 {
			return nil, fmt.Errorf("ssl needs gateway.%s and gateway.%s_key", certs.property, certs.property)
		}
		var err error
		if pair, err = tls.LoadX509KeyPair(certs.cert[0], certs.token[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", certs.property, err)
		}
	}
	l, err := engine.OpenListener(spec)
	if err != nil || !spec.SSL {
		return l, err
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}), nil
}

// serve answers on every socket until shutdown, telling failed of a socket that
// stops by itself.
func (ls *listeners) serve(s *fasthttp.Server, failed func(error)) {
	ls.server = s
	for _, l := range ls.open {
		go func() {
			if err := s.Serve(l); err != nil {
				failed(fmt.Errorf("%s: %w", ls.property, err))
			}
		}()
	}
}

// shutdown closes the sockets and lets answers under way finish until ctx ends.
func (ls *listeners) shutdown(ctx context.Context) error {
	if ls.server == nil || len(ls.open) == 0 {
		return nil
	}
	return ls.server.ShutdownWithContext(ctx)
}

func (ls *listeners) close() {
	for _, l := range ls.open {
		_ = l.Close() // never served
	}
}

// addresses are where clients connect: one text, off when nowhere.
func addresses(addrs []net.Addr) string {
	if len(addrs) == 0 {
		return "off"
	}
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		if a.Network() == "unix" {
			texts[i] = "unix:"
		}
		texts[i] += a.String()
	}
	return strings.Join(texts, ",")
}

func (ls *listeners) addrs() []net.Addr {
	addrs := make([]net.Addr, len(ls.open))
	for i, l := range ls.open {
		addrs[i] = l.Addr()
	}
	return addrs
}

// errNoListener is what a gateway that nobody could reach is refused for.
var errNoListener = errors.New("gateway.proxy_listen is off and so is every other listener")
