package engine_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// together sends n requests at the same time, lets the origin answer once they are under way,
// and gives each answer to check.
func (c *caching) together(n int, p *page, release chan struct{}, headers func(i int) []string, check func(i int, a *answer)) {
	c.t.Helper()
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { check(i, c.send(noRedirects, http.MethodGet, p.path, http.NoBody, headers(i)...)) })
	}
	eventually(c.t, "a request at the origin", func() bool { return p.hits() > 0 })
	close(release)
	wait.Wait()
}

// personal answers with what a request header says, when it is let.
func personal(release chan struct{}, name string, fields ...string) says {
	return says{do: func(w http.ResponseWriter, r *http.Request) {
		<-release
		for i := 0; i+1 < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprintf(w, "for %s", r.Header.Get(name))
	}}
}

// RFC 9111 4, 3.5, 4.1: requests that wait for one another get what each of them may have.
func TestCachingTogether(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, fields := range [][]string{
			{"Cache-Control", lasting},                                              // kept of nobody with Authorization
			{"Cache-Control", "private, max-age=60"},                                // of nobody at all
			{"Cache-Control", "no-store"},                                           //
			{"Cache-Control", "public, max-age=60", "Vary", "Authorization"},        // of each his own
			{"Cache-Control", "public, max-age=60", "Set-Cookie", "id=1"},           // of nobody
			{"Cache-Control", "public, max-age=60", "Vary", "*"},                    // of nobody
			{"CDN-Cache-Control", "private, max-age=60", "Cache-Control", "public"}, // of nobody
		} {
			release := make(chan struct{})
			p := c.page(personal(release, "Authorization", fields...))
			who := func(i int) string { return fmt.Sprintf("Basic %d", i) }
			c.together(12, p, release, func(i int) []string { return []string{"Authorization", who(i)} }, func(i int, a *answer) {
				if a.err != nil || a.body != "for "+who(i) {
					c.t.Errorf("%q: %s got %q, %v", fields, who(i), a.body, a.err)
				}
			})
		}
	})
}

// RFC 9111 4: many requests for one answer make one of the origin.
func TestCachingTogetherOnce(t *testing.T) {
	bothModes(t, func(c *caching) {
		release := make(chan struct{})
		p := c.page(personal(release, "X-None", "Cache-Control", lasting, "ETag", `"a"`))
		c.together(12, p, release, func(i int) []string {
			if i%2 == 0 {
				return nil
			}
			return []string{"If-None-Match", `"a"`}
		}, func(i int, a *answer) {
			if want := 200 + 104*(i%2); a.err != nil || a.status() != want {
				c.t.Errorf("%d: %d %q %v", i, a.status(), a.body, a.err)
			}
		})
		if p.hits() != 1 {
			c.t.Errorf("%d requests at the origin", p.hits())
		}
	})
}

// RFC 9111 5.2.1.4, 5.2.1.5: who does not want what is kept asks himself.
func TestCachingTogetherDemands(t *testing.T) {
	c := openCaching(t, byRFC)
	release := make(chan struct{})
	p := c.page(personal(release, "X-None", "Cache-Control", lasting))
	c.together(6, p, release, func(int) []string { return []string{"Cache-Control", "no-store"} }, func(_ int, a *answer) {
		if a.err != nil || a.status() != 200 {
			t.Errorf("%d %v", a.status(), a.err)
		}
	})
	resp, _ := p.get()
	if resp.Header.Get("X-Cache-Status") == "Hit" {
		t.Errorf("kept for no-store: %v", resp.Header)
	}
}
