package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/downstream"
)

// This suite holds proxy-cache against the RFCs on HTTP caching, requirement by
// requirement: a gateway on loopback, an origin that says what the test wrote, and clients.
// cache/CONFORMANCE.md lists which test shows which requirement.

// caching is a gateway with a cache in front of an origin that plays pages.
type caching struct {
	*lanes
	stage *stage

	mu    sync.Mutex
	pages map[string]*page
}

const cachingOrigin = "origin.test:80"

// openCaching opens a gateway whose service has proxy-cache with settings, and a document
// that ends in more. The service is not asked twice.
func openCaching(t testing.TB, settings string, more ...string) *caching {
	t.Helper()
	s := newStage(t)
	c := &caching{stage: s, pages: map[string]*page{}}
	s.cast(cachingOrigin, role{answer: c.play})
	text := fmt.Sprintf(`_format_version: "3.0"
services:
- name: origin
  url: http://origin.test:80
  retries: 0
  routes: [{name: all, paths: [/], strip_path: false}]
  plugins: [{name: proxy-cache, config: {strategy: memory, memory: {size: 4m}, %s}}]
%s
`, settings, strings.Join(more, "\n"))
	dial := func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, cachingOrigin) }
	c.lanes = startLanes(t, text, &origins{override: dial}, downstream.Timeouts{})
	return c
}

// The two modes that do as the RFCs say.
const (
	byRFC     = "rfc: true"
	byControl = "cache_control: true"
)

// bothModes runs f in each of them.
func bothModes(t *testing.T, f func(c *caching)) {
	t.Helper()
	for _, settings := range []string{byRFC, byControl} {
		t.Run(settings, func(t *testing.T) { f(openCaching(t, settings)) })
	}
}

// says is one answer of the origin. Without a body it says which answer it is.
type says struct {
	status int      // 0 for 200
	fields []string // names and values; "-" leaves out what would be made up
	body   string
	do     http.HandlerFunc // instead of all that
}

// ok is an answer with fields.
func ok(fields ...string) says { return says{fields: fields} }

// page is a path of the origin. Its answers follow one another, the last one stays.
type page struct {
	c    *caching
	path string

	// Under the lock of c.
	answers []says
	seen    []*http.Request
	seenNow int // being answered
}

// page makes a page at a path of its own.
func (c *caching) page(answers ...says) *page {
	c.mu.Lock()
	n := len(c.pages)
	c.mu.Unlock()
	return c.pageAt("/page"+strconv.Itoa(n), answers...)
}

func (c *caching) pageAt(path string, answers ...says) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &page{c: c, path: path, answers: answers}
	c.pages[path] = p
	return p
}

// play answers as the origin.
func (c *caching) play(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	p := c.pages[r.URL.Path]
	if p == nil {
		c.mu.Unlock()
		w.WriteHeader(http.StatusTeapot)
		return
	}
	p.seen = append(p.seen, r)
	n := len(p.seen)
	a := p.answers[min(n, len(p.answers))-1]
	p.seenNow++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		p.seenNow--
		c.mu.Unlock()
	}()
	if a.do != nil {
		a.do(w, r)
		return
	}
	h := w.Header()
	if a.status != http.StatusNotModified {
		h.Set("Content-Type", "text/plain")
		h.Set("X-Answer", strconv.Itoa(n))
	}
	told := map[string]bool{}
	for i := 0; i+1 < len(a.fields); i += 2 {
		name, value := http.CanonicalHeaderKey(a.fields[i]), a.fields[i+1]
		if value == "-" {
			h[name] = nil
			continue
		}
		if !told[name] {
			h.Del(name)
		}
		told[name] = true
		h.Add(name, value)
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if bodyless(a.status) {
		return
	}
	body := a.body
	if body == "" {
		body = "answer " + strconv.Itoa(n)
	}
	_, _ = io.WriteString(w, body)
}

func bodyless(status int) bool {
	return status == http.StatusNotModified || status == http.StatusNoContent
}

// hits returns how many requests for the page have reached the origin.
func (p *page) hits() int {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return len(p.seen)
}

// asked returns what the origin got as the nth request for the page, counted from 1.
func (p *page) asked(n int) http.Header {
	p.c.t.Helper()
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if n > len(p.seen) {
		p.c.t.Fatalf("%s: the origin has got %d requests, not %d", p.path, len(p.seen), n)
	}
	return p.seen[n-1].Header
}

// get sends a GET for the page.
func (p *page) get(headers ...string) (*http.Response, string) {
	p.c.t.Helper()
	return p.c.get(p.path, headers...)
}

// want sends a GET and checks which answer of the origin comes back, counted from 1, and
// what the gateway calls that.
func (p *page) want(answer int, status string, headers ...string) *http.Response {
	p.c.t.Helper()
	resp, _ := p.get(headers...)
	p.check(resp, answer, status)
	return resp
}

func (p *page) check(resp *http.Response, answer int, status string) {
	p.c.t.Helper()
	if got := resp.Header.Get("X-Answer"); got != strconv.Itoa(answer) || resp.Header.Get("X-Cache-Status") != status {
		p.c.t.Errorf("%s: answer %q of the origin, %s; want %d, %s: %d %v",
			p.path, got, resp.Header.Get("X-Cache-Status"), answer, status, resp.StatusCode, resp.Header)
	}
}

// kept checks that the page is kept: a GET gets the first answer, and so does another.
func (p *page) kept(headers ...string) {
	p.c.t.Helper()
	p.want(1, "Miss", headers...)
	p.want(1, "Hit", headers...)
}

// notKept checks that the page is not given twice.
func (p *page) notKept(headers ...string) {
	p.c.t.Helper()
	p.want(1, "Bypass", headers...)
	p.want(2, "Bypass", headers...)
}

// asksAgain checks that the page is never given without asking, kept or not.
func (p *page) asksAgain(headers ...string) {
	p.c.t.Helper()
	for n := 1; n <= 2; n++ {
		if resp, _ := p.get(headers...); resp.Header.Get("X-Answer") != strconv.Itoa(n) {
			p.c.t.Errorf("%s: request %d got answer %s: %v", p.path, n, resp.Header.Get("X-Answer"), resp.Header)
		}
	}
}

// age checks that an answer has an Age of about so many seconds.
func age(t testing.TB, resp *http.Response, want int) {
	t.Helper()
	if got, err := strconv.Atoi(resp.Header.Get("Age")); err != nil || len(resp.Header["Age"]) != 1 || got < want || got > want+10 {
		t.Errorf("Age %q, want about %d", resp.Header["Age"], want)
	}
}

// ago is a date in the past, as a field has it.
func ago(d time.Duration) string { return time.Now().Add(-d).UTC().Format(http.TimeFormat) }

// in is one in the future.
func in(d time.Duration) string { return ago(-d) }

// field checks the lines of a field, joined with "|".
func field(t testing.TB, h http.Header, name, want string) {
	t.Helper()
	if got := strings.Join(h.Values(name), "|"); got != want {
		t.Errorf("%s %q, want %q", name, got, want)
	}
}

// rawTo sends text to a listener and returns the response.
func (c *caching) rawTo(secure bool, text string) (*http.Response, string) {
	c.t.Helper()
	conn := c.dial(secure)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		c.t.Fatal(err)
	}
	return readResponse(c.t, bufio.NewReader(conn), strings.HasPrefix(text, "HEAD "))
}

const conformanceTable = "../cache/CONFORMANCE.md"

// TestCachingTable checks that the table names tests that there are, and every test of
// this suite.
func TestCachingTable(t *testing.T) {
	text, err := os.ReadFile(conformanceTable)
	if err != nil {
		t.Fatal(err)
	}
	funcs := map[string]map[string]bool{} // of a file
	named := map[string]bool{}
	// As in: `TestCachingAge` (engine/cache_conform_fresh_test.go)
	reference := regexp.MustCompile("((?:`Test[A-Za-z0-9_]+`(?:, )?)+) \\(([a-z0-9_/]+\\.go)\\)")
	name := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| section") {
			continue
		}
		if rows++; strings.Count(line, "|") != 4 {
			t.Errorf("a row has other than three columns: %s", line)
		}
		groups := reference.FindAllStringSubmatch(line, -1)
		referred := 0
		for _, g := range groups {
			if funcs[g[2]] == nil {
				funcs[g[2]] = testsOf(t, filepath.Join("..", filepath.FromSlash(g[2])))
			}
			for _, n := range name.FindAllStringSubmatch(g[1], -1) {
				referred++
				if named[n[1]] = true; !funcs[g[2]][n[1]] {
					t.Errorf("%s has no %s", g[2], n[1])
				}
			}
		}
		if all := len(name.FindAllString(line, -1)); referred == 0 || referred != all {
			t.Errorf("a row names %d tests, %d of them with their file: %s", all, referred, line)
		}
	}
	if rows < 100 {
		t.Errorf("only %d rows", rows)
	}
	files, err := filepath.Glob("cache_conform_*test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for test := range testsOf(t, file) {
			if !named[test] && test != "TestCachingTable" {
				t.Errorf("%s in %s is in no row", test, file)
			}
		}
	}
}

// testsOf returns the test functions that a file declares.
func testsOf(t *testing.T, file string) map[string]bool {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, d := range tree.Decls {
		if f, is := d.(*ast.FuncDecl); is && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
			found[f.Name.Name] = true
		}
	}
	return found
}
