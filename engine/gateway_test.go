package engine_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

var discardLog = slog.New(slog.DiscardHandler)

// gateway is a running engine over a document, on a port of its own.
type gateway struct {
	*engine.Engine
	addr string
	t    testing.TB
}

// document reads text as the operator's only file.
func document(t testing.TB, text string) *config.Document {
	t.Helper()
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(text)}}, config.Options{Catalog: plugin.All})
	if err != nil {
		t.Fatalf("document:\n%v", err)
	}
	return d
}

// start opens a gateway with everyday timeouts.
func start(t testing.TB, text string, origins *origins) *gateway {
	t.Helper()
	return startWith(t, text, origins, downstream.Timeouts{})
}

// startWith opens a gateway whose dials go to the origins, whatever name they are for.
func startWith(t testing.TB, text string, origins *origins, timeouts downstream.Timeouts) *gateway {
	t.Helper()
	d := document(t, text)
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", Port: 0}}
	o := engine.Options{Plugins: plugin.All, Version: "test", Log: discardLog, Timeouts: timeouts}
	if origins != nil {
		o.Dial = origins.dial
	}
	e, err := engine.Open(d, o)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return &gateway{Engine: e, addr: addrs[0].String(), t: t}
}

// origins answers for every address that is dialed, each with a listener of its own.
type origins struct {
	t       testing.TB
	handler func(name string) http.Handler

	// override, if set, makes every connection.
	override func(ctx context.Context) (net.Conn, error)

	mu      sync.Mutex
	servers map[string]net.Listener
}

// echoes returns origins that describe the request they got.
func echoes(t testing.TB) *origins {
	return newOrigins(t, func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { writeEcho(w, r, name) })
	})
}

func newOrigins(t testing.TB, handler func(name string) http.Handler) *origins {
	o := &origins{t: t, handler: handler, servers: map[string]net.Listener{}}
	t.Cleanup(o.close)
	return o
}

func (o *origins) dial(ctx context.Context, address string) (net.Conn, error) {
	if o.override != nil {
		return o.override(ctx)
	}
	o.mu.Lock()
	l, ok := o.servers[address]
	if !ok {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			o.mu.Unlock()
			return nil, err
		}
		o.servers[address] = l
		s := &http.Server{Handler: o.handler(address), ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = s.Serve(l) }()
	}
	o.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", l.Addr().String())
}

func (o *origins) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.servers {
		_ = l.Close()
	}
}

// echo is what an echoing origin says about a request.
type echo struct {
	Origin string              `json:"origin"`
	Method string              `json:"method"`
	URI    string              `json:"uri"`
	Host   string              `json:"host"`
	Header map[string][]string `json:"header"`
	Body   string              `json:"body"`
}

func writeEcho(w http.ResponseWriter, r *http.Request, name string) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(echo{
		Origin: name, Method: r.Method, URI: r.RequestURI, Host: r.Host, Header: r.Header, Body: string(body),
	})
}

// raw sends text as it is over a connection of its own and returns the first
// response, its body read.
func (g *gateway) raw(text string) (*http.Response, string) {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		g.t.Fatal(err)
	}
	return readResponse(g.t, bufio.NewReader(c), strings.HasPrefix(text, "HEAD "))
}

func readResponse(t testing.TB, br *bufio.Reader, head bool) (*http.Response, string) {
	t.Helper()
	method := http.MethodGet
	if head {
		method = http.MethodHead
	}
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("body of a %d: %v", resp.StatusCode, err)
	}
	return resp, string(body)
}

// get sends a GET with headers that alternate names and values.
func (g *gateway) get(path string, headers ...string) (*http.Response, string) {
	g.t.Helper()
	return g.do(http.MethodGet, path, "", headers...)
}

func (g *gateway) do(method, path, body string, headers ...string) (*http.Response, string) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.addr+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if strings.EqualFold(headers[i], "Host") {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp, string(b)
}

var noRedirects = &http.Client{
	Timeout:       30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
}

// echoed decodes what an echoing origin answered.
func echoed(t testing.TB, body string) echo {
	t.Helper()
	var e echo
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("not an echo: %v\n%s", err, body)
	}
	return e
}

// pemOf renders a certificate and its key as JSON strings, which YAML reads.
func pemOf(t testing.TB, c tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	quote := func(kind string, b []byte) string {
		text, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return quote("CERTIFICATE", c.Certificate[0]), quote("PRIVATE KEY", der)
}
