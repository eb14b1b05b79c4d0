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
		text = body()
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
			o: &options{balancer: balancer}, lines: requestLines(),
			digest: sha256.Sum256([]byte(body())), client: server.Client(),
		}
		r := &running{subject: subjectNamed("full"), url: server.URL, statusURL: server.URL}
		err := verifySample(t.Context(), l, r.url)
		if err == nil {
			err = verifyPolicy(t.Context(), l, r)
		}
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
	f("body (1024 bytes) is not the service's", turn, &gatewayDouble{body: strings.Repeat("x", bodyBytes)})
	keys = nil
	f("want status 200, got 401", turn, &gatewayDouble{})
}
