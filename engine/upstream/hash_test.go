package upstream

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

// hashed is what x is hashed by.
func hashed(u *config.Upstream, x *pipeline.Exchange) string {
	return string(newHasher(u).append(nil, x))
}

func TestHashInputs(t *testing.T) {
	captured := func() *pipeline.Exchange {
		x := pipelinetest.NewExchange("GET", "/users/42/x")
		x.Pattern = regexp.MustCompile(`^/users/(?P<id>\d+)/(\w+)`)
		return x
	}
	plain := func(uri string, headers ...string) *pipeline.Exchange {
		return pipelinetest.NewExchange("GET", uri, headers...)
	}
	called := func(consumer, credential string) *pipeline.Exchange {
		x := plain("/")
		if consumer != "" {
			x.Consumer = &pipeline.Consumer{Consumer: &config.Consumer{ID: consumer}}
		}
		if credential != "" {
			x.Credential = &pipeline.Credential{ID: credential}
		}
		return x
	}
	f := func(u config.Upstream, x *pipeline.Exchange, want string) {
		t.Helper()
		got := hashed(&u, x)
		if want == "" && len(got) != 8 || want != "" && got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(config.Upstream{HashOn: "consumer"}, called("c", "k"), "c")
	f(config.Upstream{HashOn: "consumer"}, called("", "k"), "k")
	f(config.Upstream{HashOn: "consumer"}, called("", ""), "")
	f(config.Upstream{HashOn: "consumer", HashFallback: "ip"}, called("", ""), "192.0.2.1")
	f(config.Upstream{HashOn: "ip"}, plain("/"), "192.0.2.1")
	f(config.Upstream{HashOn: "path"}, plain("/a/b?c"), "/a/b")
	f(config.Upstream{HashOn: "header", HashOnHeader: "x-key"}, plain("/", "X-Key", "v"), "v")
	f(config.Upstream{HashOn: "header", HashOnHeader: "X-KEY"}, plain("/", "X-Key", "v", "x-key", "w"), "v, w")
	f(config.Upstream{HashOn: "header", HashOnHeader: "X-Key"}, plain("/"), "")
	f(config.Upstream{HashOn: "header", HashOnHeader: "X-A", HashFallback: "header", HashFallbackHeader: "X-B"}, plain("/", "X-B", "b"), "b")
	f(config.Upstream{HashOn: "header", HashOnHeader: "X-A", HashFallback: "header", HashFallbackHeader: "X-B"}, plain("/", "X-B", "b", "X-A", "a"), "a")
	f(config.Upstream{HashOn: "header", HashOnHeader: "X-A", HashFallback: "query_arg", HashFallbackQueryArg: "q"}, plain("/?q=1"), "1")
	f(config.Upstream{HashOn: "header", HashOnHeader: "X-A", HashFallback: "uri_capture", HashFallbackURICapture: "id"}, captured(), "42")
	f(config.Upstream{HashOn: "cookie", HashOnCookie: "sid"}, plain("/", "Cookie", "a=b; sid=xyz; c=d"), "xyz")
	f(config.Upstream{HashOn: "uri_capture", HashOnURICapture: "id"}, captured(), "42")
	f(config.Upstream{HashOn: "uri_capture", HashOnURICapture: "2"}, captured(), "x")
	f(config.Upstream{HashOn: "uri_capture", HashOnURICapture: "3"}, captured(), "")
	f(config.Upstream{HashOn: "uri_capture", HashOnURICapture: "id"}, plain("/"), "")
	f(config.Upstream{HashOn: "none", HashFallback: "none"}, plain("/"), "")
}

// Where there is nothing to hash, requests are not all sent to one place.
func TestHashOfNothingDiffers(t *testing.T) {
	u := &config.Upstream{HashOn: "header", HashOnHeader: "X-Key"}
	seen := map[string]bool{}
	for range 100 {
		seen[hashed(u, pipelinetest.NewExchange("GET", "/"))] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100 differ", len(seen))
	}
}

// A client without the cookie gets one, and is hashed by what it got.
func TestHashCookieIsIssued(t *testing.T) {
	f := func(path, suffix string) {
		t.Helper()
		x := pipelinetest.NewExchange("GET", "/")
		value := hashed(&config.Upstream{HashOn: "cookie", HashOnCookie: "sid", HashOnCookiePath: path, HashFallback: "none"}, x)
		x.ApplyStaged()
		got := string(x.Ctx.Response.Header.Peek("Set-Cookie"))
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(value) || got != "sid="+value+suffix {
			t.Errorf("%q, cookie %q", value, got)
		}
	}
	f("/", "; Path=/; SameSite=Lax; HttpOnly")
	f("", "; Path=/; SameSite=Lax; HttpOnly")
	f("/shop", "; Path=/shop; SameSite=Lax; HttpOnly")

	// One that came needs no other, not even as a fallback.
	x := pipelinetest.NewExchange("GET", "/", "Cookie", "sid=1")
	u := &config.Upstream{HashOn: "header", HashOnHeader: "X-Key", HashFallback: "cookie", HashOnCookie: "sid"}
	if got := hashed(u, x); got != "1" {
		t.Errorf("got %q", got)
	}
	x.ApplyStaged()
	if c := x.Ctx.Response.Header.Peek("Set-Cookie"); len(c) > 0 {
		t.Errorf("cookie %q", c)
	}
}

// Arguments are compared with a naive reading of the query.
func TestHashArguments(t *testing.T) {
	f := func(query, want string) {
		t.Helper()
		got := string(appendArguments([]byte("before"), []byte(query), "a"))
		if got != "before"+want {
			t.Errorf("%q: got %q, want %q", query, got, want)
		}
		if strings.ContainsAny(query, "%+;") {
			return
		}
		var values []string
		for arg := range strings.SplitSeq(query, "&") {
			if name, value, found := strings.Cut(arg, "="); name == "a" {
				if !found {
					value = "true"
				}
				values = append(values, value)
			}
		}
		slices.Sort(values)
		if naive := strings.Join(values, ","); naive != want {
			t.Errorf("%q: read naively %q, want %q", query, naive, want)
		}
	}
	f("", "")
	f("b=1", "")
	f("a=1", "1")
	f("a", "true")
	f("a=", "")
	f("b=0&a=1&ab=2", "1")
	f("a=2&a=1", "1,2")
	f("a=2&a&a=1", "1,2,true")
	f("a=1&a=1", "1,1")
	f("a=&a=x", ",x")
	f("a=z&b=y&a=x&a=y", "x,y,z")
	f("a="+url.QueryEscape("x y/ü"), "x y/ü")
	f("%61=1", "1")
	f("a=1=2", "1=2")
}

// What most requests are hashed by costs no memory.
func TestHashAllocations(t *testing.T) {
	x := pipelinetest.NewExchange("GET", "/users/42?q=%61b&r=1", "X-Key", "v", "Cookie", "sid=xyz")
	x.Consumer = &pipeline.Consumer{Consumer: &config.Consumer{ID: "c"}}
	x.Pattern = regexp.MustCompile(`^/users/(?P<id>\d+)`)
	x.Capture("id") // what the router's match costs is not the hasher's
	for _, u := range []config.Upstream{
		{HashOn: "consumer"}, {HashOn: "ip"}, {HashOn: "path"}, {HashOn: "header", HashOnHeader: "x-key"},
		{HashOn: "cookie", HashOnCookie: "sid"}, {HashOn: "query_arg", HashOnQueryArg: "q"}, {HashOn: "uri_capture", HashOnURICapture: "id"},
		{HashOn: "header", HashOnHeader: "x-none", HashFallback: "ip"}, {HashOn: "header", HashOnHeader: "x-none"},
	} {
		h, dst := newHasher(&u), make([]byte, 0, 64)
		if n := testing.AllocsPerRun(100, func() { dst = h.append(dst[:0], x) }); n != 0 {
			t.Errorf("%s: %v allocations", u.HashOn, n)
		}
	}
}
