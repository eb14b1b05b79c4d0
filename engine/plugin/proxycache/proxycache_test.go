package proxycache

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

// kitchen is a gateway whose service answers with a count and the headers of the test.
type kitchen struct {
	*pipelinetest.Gateway
	asked   int
	headers []string // names and values
	status  int
	body    string
}

func cook(t testing.TB, settings string) *kitchen {
	t.Helper()
	k := &kitchen{Gateway: pipelinetest.Open(t, document(name, settings), Spec), status: 200}
	k.Service = func(x *pipeline.Exchange) {
		k.asked++
		resp := &x.Ctx.Response
		pipeline.ClearResponse(resp)
		resp.SetStatusCode(k.status)
		resp.Header.SetContentType("text/plain")
		for i := 0; i+1 < len(k.headers); i += 2 {
			resp.Header.Add(k.headers[i], k.headers[i+1])
		}
		resp.SetBodyString(fmt.Sprintf("%s%d", k.body, k.asked))
	}
	return k
}

// ask returns X-Cache-Status and the body, and gives the request back.
func (k *kitchen) ask(method, uri string, headers ...string) string {
	x := k.Do(method, uri, headers...)
	defer x.Ctx.ResetUserValues()
	return string(x.Ctx.Response.Header.Peek("X-Cache-Status")) + " " + string(x.Ctx.Response.Body())
}

func TestKongKeys(t *testing.T) {
	k := cook(t, "vary_headers: [Accept-Language], cache_ttl: 60")
	f := func(want, method, uri string, headers ...string) {
		t.Helper()
		if got := k.ask(method, uri, headers...); got != want {
			t.Errorf("%s %s %v: %s, want %s", method, uri, headers, got, want)
		}
	}
	f("Miss 1", "GET", "/a?x=1&y=2")
	f("Hit 1", "GET", "/a?y=2&x=1")
	f("Hit 1", "GET", "/a?y=2&&x=1&")
	f("Miss 2", "GET", "/a?y=2&x=1&x=0") // those of one name keep their order
	f("Miss 3", "GET", "/a?y=2&x=0&x=1")
	f("Miss 4", "GET", "/A?x=1&y=2")
	f("Miss 5", "GET", "/a")
	f("Miss 6", "GET", "/a", "Accept-Language", "de")
	f("Hit 6", "GET", "/a", "accept-language", "de")
	f("Bypass 7", "POST", "/a")
	f("Bypass 8", "GET", "/a", "Authorization", "Bearer x")
	f("Bypass 9", "GET", "/a", "If-Match", `"x"`)
	f("Hit 5", "GET", "/a", "Cache-Control", "no-store")
	many := strings.Repeat("z=1&", argumentsMax) + "b=1&a=1"
	f("Miss 10", "GET", "/m?"+many)
	f("Hit 10", "GET", "/m?"+many)

	k = cook(t, "vary_query_params: [page, limit], ignore_uri_case: true, memory: {dictionary_name: b}")
	f("Miss 1", "GET", "/a?page=1&tracking=5")
	f("Hit 1", "GET", "/A?tracking=6&page=1")
	f("Hit 1", "GET", "/a?page=1&p%61ges=2")
	f("Miss 2", "GET", "/a?page=2")
}

func TestKeysHaveConsumerAndHost(t *testing.T) {
	k := cook(t, "")
	ask := func(consumer, host string, secure bool) string {
		x := k.Exchange("GET", "/a")
		x.Ctx.Request.Header.SetHost(host)
		x.Secure = secure
		if consumer != "" {
			x.Consumer = &pipeline.Consumer{}
			x.Consumer.Consumer = consumerNamed(consumer)
		}
		k.Serve(x)
		defer x.Ctx.ResetUserValues()
		return string(x.Ctx.Response.Header.Peek("X-Cache-Status"))
	}
	f := func(want, consumer, host string, secure bool) {
		t.Helper()
		if got := ask(consumer, host, secure); got != want {
			t.Errorf("%q at %s, TLS %v: %s, want %s", consumer, host, secure, got, want)
		}
	}
	f("Miss", "", "one", false)
	f("Hit", "", "ONE", false)
	f("Miss", "", "two", false)
	f("Miss", "", "one", true)
	f("Miss", "ada", "one", false)
	f("Miss", "bob", "one", false)
	f("Hit", "ada", "one", false)
}

func TestWhatIsNotKept(t *testing.T) {
	f := func(why, settings string, status int, headers ...string) {
		t.Helper()
		k := cook(t, settings)
		k.headers, k.status = headers, status
		first, second := k.ask("GET", "/a"), k.ask("GET", "/a")
		if first != "Bypass 1" || second != "Bypass 2" {
			t.Errorf("%s %d %v: %s, %s", settings, status, headers, first, second)
		}
		var metrics strings.Builder
		k.Env.Expose(&metrics)
		if line := fmt.Sprintf("reason=%q} 2", why); !strings.Contains(metrics.String(), line) {
			t.Errorf("%s %d %v: no line with %s in\n%s", settings, status, headers, line, metrics.String())
		}
	}
	f("status", "", 500)
	f("status", "response_code: [301]", 200)
	f("content-type", "content_type: [text/html]", 200)
	f("content-type", "content_type: [text/plain; charset=utf-8]", 200)
	f("set-cookie", "", 200, "Set-Cookie", "a=b")
	f("partial", "response_code: [206]", 206)
	f("surrogate-keys", "", 200, "Surrogate-Key", strings.Repeat("k ", 1)+manyKeys(keysMax))
	f("no-store", "cache_control: true", 200, "Cache-Control", "no-store")
	f("private", "cache_control: true", 200, "Cache-Control", "private, max-age=60")
	f("no-cache", "cache_control: true", 200, "Cache-Control", "no-cache, max-age=60")
	f("not-fresh", "cache_control: true", 200)
	f("not-fresh", "cache_control: true", 200, "Cache-Control", "max-age=0")
	f("vary", "cache_control: true", 200, "Cache-Control", "max-age=60", "Vary", "*")
	f("event-stream", "content_type: ['*/*']", 200, "Content-Type", "text/event-stream")
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d ", i)
	}
	return b.String()
}

func TestPathLabels(t *testing.T) {
	f := func(below, path string, want bool) {
		t.Helper()
		labels := appendPathLabels(nil, "s", []byte(path))
		got := false
		for _, l := range labels {
			got = got || l == belowLabel("s", []byte(below))
		}
		if got != want {
			t.Errorf("%s below %s: %v", path, below, got)
		}
		if len(labels) > depthMax+1 {
			t.Errorf("%s has %d labels", path, len(labels))
		}
	}
	f("/", "/", true)
	f("/", "/a/b/c", true)
	f("/a", "/a", true)
	f("/a/", "/a", true)
	f("/a", "/a/", true)
	f("/a", "/a/b", true)
	f("/a", "/ab", false)
	f("/a/b", "/a", false)
	f("/1/2/3/4/5/6/7", "/1/2/3/4/5/6/7", true)
	f("/1/2/3/4/5/6/7", "/1/2/3/4/5/6/7/8/9", true)
	f("/1/2/3/4/5/6/7", "/1/2/3/4/5/6", false)
	f("/1/2/3/4/5/6/7/8/9", "/1/2/3/4/5/6/7/8/9/10", true) // with all below the seventh
	f("/1/2/3/4/5/6/7/8/9", "/1/2/3/4/5/6/8", false)
}

func TestHeadRoundTrip(t *testing.T) {
	h := head{
		kind: kindEncoded, flags: flagValidate | flagCompress, status: 404, stored: 1_800_000_000_123, lifetime: 60_000, age: 5, length: -1,
		staleWhile: 7, staleError: 1 << 31, etag: span{6, 3}, modified: span{0, 2}, digest: digest([]byte("k")), lens: 1 << 40, fields: []byte("Etag: \"a\"\r\n"),
	}
	b := h.append(nil)
	var got head
	if !got.read(b) || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", h) {
		t.Errorf("%+v came back as %+v", h, got)
	}
	for i := range headSize {
		if got.read(b[:i]) {
			t.Errorf("%d bytes are read as a head", i)
		}
	}
	b[48] = 200 // the entity tag is not in the fields
	if got.read(b) {
		t.Error("a span outside the fields is read")
	}
}

func FuzzHead(f *testing.F) {
	h := head{fields: []byte("A: b\r\n")}
	f.Add(h.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h head
		if h.read(b) {
			_ = h.etag.of(h.fields)
			_ = h.modified.of(h.fields)
		}
	})
}

func TestAllocs(t *testing.T) {
	f := func(settings string, headers ...string) {
		t.Helper()
		k := cook(t, settings)
		k.headers = []string{"Cache-Control", "max-age=600", "Etag", `"v1"`, "Vary", "Accept", "Surrogate-Key", "a b"}
		k.ask("GET", "/a?x=1&y=2", "Accept", "text/plain", "Accept-Language", "de")
		x := k.Exchange("GET", "/a?x=1&y=2", headers...)
		k.Allocs(x, nil)
		if k.asked != 1 {
			t.Errorf("{%s} %v: the service was asked %d times", settings, headers, k.asked)
		}
	}
	f("")
	f("", "If-None-Match", `"v1"`)
	f("", "Range", "bytes=0-0")
	f("vary_headers: [Accept-Language], vary_query_params: [x]", "Accept-Language", "de")
	f("cache_control: true", "Accept", "text/plain")
	f("rfc: true", "Accept", "text/plain")
	f("rfc: true", "Accept", "text/plain", "Cache-Control", "max-age=60")
	f("compression: {enabled: true, min_length: 0}", "Accept", "text/plain", "Accept-Encoding", "br")
}

func BenchmarkHit(b *testing.B) {
	for _, settings := range []string{"", "rfc: true"} {
		b.Run("{"+settings+"}", func(b *testing.B) {
			k := cook(b, settings)
			k.headers, k.body = []string{"Cache-Control", "max-age=600"}, strings.Repeat("x", 1024)
			k.ask("GET", "/a?x=1&y=2")
			x := k.Exchange("GET", "/a?x=1&y=2")
			b.ReportAllocs()
			for b.Loop() {
				k.Again(x)
				x.Raw = true
				k.Chain.Begin(x)
				if k.Chain.Request(x) == pipeline.Next {
					b.Fatal("not a hit")
				}
				k.Chain.Log(x)
			}
		})
	}
}

func consumerNamed(id string) *config.Consumer { return &config.Consumer{ID: id} }
