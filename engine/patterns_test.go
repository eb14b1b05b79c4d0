package engine_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPatterns runs the golden files of testdata/patterns, one a pattern: a
// document, requests, and what became of each. Services are played by origins
// that say which address was reached and what arrived there.
//
//	# comment
//	<document>
//	=====
//	GET /path            or: 100 x GET /path
//	Header: value
//	=> 200 origin=users-api:8001 uri=/path
//
// With -update the "=>" lines are written anew.
func TestPatterns(t *testing.T) {
	files, err := filepath.Glob("testdata/patterns/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no patterns: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text, requests, ok := strings.Cut(string(data), "\n=====\n")
			if !ok {
				t.Fatalf("%s has no ===== line", file)
			}
			g := start(t, text, echoes(t))
			var out strings.Builder
			out.WriteString(text + "\n=====\n")
			var stanza []string
			for line := range strings.Lines(requests) {
				if strings.HasPrefix(line, "=> ") {
					out.WriteString("=> " + g.play(stanza) + "\n")
					stanza = nil
					continue
				}
				out.WriteString(line)
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					stanza = append(stanza, line)
				}
			}
			golden(t, file, out.String())
		})
	}
}

// play sends the request of a stanza, perhaps several times, and describes what
// came back: one outcome, or how often each.
func (g *gateway) play(stanza []string) string {
	g.t.Helper()
	if len(stanza) == 0 {
		g.t.Fatal("an answer without a request")
	}
	times := 1
	request := stanza[0]
	if n, rest, ok := strings.Cut(request, " x "); ok {
		if v, err := strconv.Atoi(n); err == nil {
			times, request = v, rest
		}
	}
	method, path, ok := strings.Cut(request, " ")
	if !ok {
		g.t.Fatalf("not a request: %q", request)
	}
	var headers []string
	for _, h := range stanza[1:] {
		name, value, _ := strings.Cut(h, ":")
		headers = append(headers, name, strings.TrimSpace(value))
	}
	outcomes := map[string]int{}
	for range times {
		resp, body := g.do(method, path, "", headers...)
		outcomes[describe(g, resp, body)]++
	}
	if times == 1 {
		for o := range outcomes {
			return o
		}
	}
	var parts []string
	for _, o := range slices.Sorted(maps.Keys(outcomes)) {
		parts = append(parts, fmt.Sprintf("%d x %s", outcomes[o], o))
	}
	return strings.Join(parts, "; ")
}

// shown are the headers of an answer that a golden file shows, and those of a
// request as it arrived at the service.
var (
	shown = []string{"X-Ratelimit-Limit-Year", "X-Ratelimit-Remaining-Year", "Retry-After", "Www-Authenticate", "X-Gateway", "Kong-Request-Id"}
	sent  = []string{"X-Consumer-Username", "X-Credential-Identifier", "X-Gateway", "X-Feature-Flags", "X-Tenant-Id", "X-Forwarded-Prefix", "User-Agent"}
)

func describe(g *gateway, resp *http.Response, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", resp.StatusCode)
	if resp.StatusCode == http.StatusOK && strings.HasPrefix(body, `{"origin"`) {
		e := echoed(g.t, body)
		fmt.Fprintf(&b, " origin=%s uri=%s host=%s", e.Origin, e.URI, e.Host)
		for _, name := range sent {
			if v := e.Header[name]; v != nil && !strings.HasPrefix(v[0], "Go-http-client") {
				fmt.Fprintf(&b, " sent:%s=%s", name, strings.Join(v, "|"))
			}
		}
	} else if line, _, _ := strings.Cut(strings.TrimPrefix(body, "{\n"), "\n"); line != "" {
		fmt.Fprintf(&b, " body=%s", strings.TrimSpace(line))
	}
	for _, name := range shown {
		v := resp.Header.Values(name)
		switch {
		case v == nil:
		case name == "Retry-After":
			b.WriteString(" Retry-After=<seconds>")
		default:
			fmt.Fprintf(&b, " %s=%s", name, strings.Join(v, "|"))
		}
	}
	return b.String()
}
