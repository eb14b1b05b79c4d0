package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// gatewayDouble answers as a full subject should, unless a fault is switched on.
type gatewayDouble struct {
	open, uncounted, anonymous, oneTarget, unmeasured bool // what it leaves out

	body string // "" for the service's
	keys map[string]string
	turn int // targets are taken in turn; requests come one at a time
}

func (g *gatewayDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		if !g.unmeasured {
			_, _ = fmt.Fprintln(w, `kong_http_requests_total{service="team-00"} 1`)
		}
		return
	}
	consumer, known := g.keys[r.Header.Get("apikey")]
	if !known && !g.open {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if !g.uncounted {
		w.Header().Set("X-RateLimit-Remaining-Minute", "9")
	}
	if r.URL.Path == echoPath {
		if g.anonymous {
			consumer = ""
		}
		if !g.oneTarget {
			g.turn++
		}
		_, _ = fmt.Fprintf(w, "%d|%s|id-%d", 9000+g.turn%targetCount, consumer, g.turn)
		return
	}
	text := g.body
	if text == "" {
		text = body(usualBodyBytes)
	}
	_, _ = w.Write([]byte(text))
}

func TestVerify(t *testing.T) {
	keys := map[string]string{}
	for i := range consumerCount {
		keys[consumerKey(i)] = consumerName(i)
	}
	f := func(want, balancer string, g *gatewayDouble) {
		t.Helper()
		g.keys = keys
		server := httptest.NewServer(g)
		defer server.Close()
		l := &lab{
			o: &options{balancer: balancer}, requests: map[*group]*requestFile{proxied: {lines: requestLines()}},
			digests: map[int][sha256.Size]byte{usualBodyBytes: sha256.Sum256([]byte(body(usualBodyBytes)))}, client: server.Client(),
		}
		err := verify(t.Context(), l, &running{row: row{"full", fullSubject, proxied}, url: server.URL, statusURL: server.URL})
		if want == "" && err != nil {
			t.Errorf("refused: %v", err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
	const turn = "round-robin"
	f("", turn, &gatewayDouble{})
	f("want status 401, got 200", turn, &gatewayDouble{open: true})
	f("X-RateLimit-Remaining-Minute", turn, &gatewayDouble{uncounted: true})
	f(`want consumer "consumer-0000"`, turn, &gatewayDouble{anonymous: true})
	f("all went to one target", turn, &gatewayDouble{oneTarget: true})
	f("two targets", "consistent-hashing", &gatewayDouble{})
	f("kong_http_requests_total", turn, &gatewayDouble{unmeasured: true})
	f("body (5 bytes) is not the service's", turn, &gatewayDouble{body: "short"})
	f("body (1024 bytes) is not the service's", turn, &gatewayDouble{body: strings.Repeat("x", usualBodyBytes)})
	keys = nil
	f("want status 200, got 401", turn, &gatewayDouble{})
}

// cacheDouble stores what it is asked for, unless a fault is switched on.
type cacheDouble struct {
	forgets    bool // stores nothing
	spoils     bool // a stored answer is another one
	unmeasured bool // has no metrics

	stored map[string]bool
}

func (c *cacheDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		if !c.unmeasured {
			_, _ = fmt.Fprintln(w, `kong_http_requests_total{service="plain"} 1`)
		}
		return
	}
	text, status := body(usualBodyBytes), "Miss"
	if c.stored[r.URL.Path] {
		status = "Hit"
		if c.spoils {
			text = "old"
		}
	}
	if !c.forgets {
		c.stored[r.URL.Path] = true
	}
	w.Header().Set("X-Cache-Status", status)
	_, _ = w.Write([]byte(text))
}

func TestVerifyCached(t *testing.T) {
	f := func(want string, c *cacheDouble) {
		t.Helper()
		c.stored = map[string]bool{}
		server := httptest.NewServer(c)
		defer server.Close()
		l := &lab{
			requests: map[*group]*requestFile{cached: {lines: cachedLines()}},
			digests:  map[int][sha256.Size]byte{usualBodyBytes: sha256.Sum256([]byte(body(usualBodyBytes)))}, client: server.Client(),
		}
		err := verify(t.Context(), l, &running{row: row{"cached", cachedSubject, cached}, url: server.URL, statusURL: server.URL})
		if want == "" && err != nil {
			t.Errorf("refused: %v", err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
	f("", &cacheDouble{})
	f("GET /catalogue/item-000: not a hit the second time", &cacheDouble{forgets: true})
	f("body (3 bytes) is not the service's", &cacheDouble{spoils: true})
	f("kong_http_requests_total", &cacheDouble{unmeasured: true})
}

func TestIsVarnishHit(t *testing.T) {
	f := func(want bool, value string) {
		t.Helper()
		if got := isVarnishHit(http.Header{"X-Varnish": {value}}); got != want {
			t.Errorf("X-Varnish %q: got %t", value, got)
		}
	}
	f(true, "32770 3")
	f(false, "32770")
	f(false, "")
}
