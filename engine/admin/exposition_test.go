package admin

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// metricsGateway has metrics and nothing else.
type metricsGateway struct {
	Gateway
	text string
}

func (g *metricsGateway) WriteMetrics(w io.Writer) {
	for line := range strings.Lines(g.text) {
		if _, err := io.WriteString(w, line); err != nil {
			return
		}
	}
}

// pieces counts writes.
type pieces struct {
	bytes.Buffer
	n, longest int
	fail       bool
}

func (p *pieces) Write(b []byte) (int, error) {
	if p.fail {
		return 0, errors.New("the scraper is gone")
	}
	p.n, p.longest = p.n+1, max(p.longest, len(b))
	return p.Buffer.Write(b)
}

// The text is sent in pieces, whole, and the same whether it is written or read.
func TestExposition(t *testing.T) {
	g := &metricsGateway{text: strings.Repeat("some_metric_total{route=\"a\"} 1\n", 10_000)}
	p := &pieces{}
	n, err := (&exposition{gateway: g}).WriteTo(p)
	if err != nil || n != int64(len(g.text)) || p.String() != g.text {
		t.Errorf("%d of %d bytes, error %v", n, len(g.text), err)
	}
	if p.longest > pieceBytes || p.n < len(g.text)/pieceBytes {
		t.Errorf("%d pieces of at most %d bytes", p.n, p.longest)
	}
	read, err := io.ReadAll(&exposition{gateway: g})
	if err != nil || string(read) != g.text {
		t.Errorf("read %d of %d bytes, error %v", len(read), len(g.text), err)
	}
	if n, err := (&exposition{gateway: g}).WriteTo(&pieces{fail: true}); err == nil || n != 0 {
		t.Errorf("%d bytes to a scraper that is gone, error %v", n, err)
	}
}

// After every piece requests have their turn: the writer sleeps.
func TestExpositionRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pieces{}
		began := time.Now()
		if _, err := (&exposition{gateway: &metricsGateway{text: strings.Repeat("some_metric 1\n", 50_000)}}).WriteTo(p); err != nil {
			t.Fatal(err)
		}
		if rested := time.Since(began); p.n < 10 || rested != time.Duration(p.n)*pieceRest {
			t.Errorf("%d pieces, rested for %s", p.n, rested)
		}
		began = time.Now()
		if _, err := (&exposition{gateway: &metricsGateway{text: strings.Repeat("x", 1<<20) + "\n"}}).WriteTo(&pieces{fail: true}); err == nil || time.Since(began) != 0 {
			t.Errorf("a scraper that is gone: rested for %s, error %v", time.Since(began), err)
		}
	})
}
