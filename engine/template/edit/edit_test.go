package edit_test

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// rules compiles "op name:value" texts, in the given order.
func rules(t testing.TB, dotsInKeys bool, texts ...string) (*edit.Templates, []edit.Rule) {
	t.Helper()
	ops := map[string]edit.Op{"remove": edit.Remove, "rename": edit.Rename, "replace": edit.Replace, "add": edit.Add, "append": edit.Append}
	types := map[string]edit.Type{"number": edit.NumberType, "boolean": edit.BooleanType}
	templates := &edit.Templates{}
	var list []edit.Rule
	for _, text := range texts {
		op, rest, _ := strings.Cut(text, " ")
		op, typ, _ := strings.Cut(op, "/")
		name, value, _ := strings.Cut(rest, ":")
		r, err := templates.Rule(ops[op], name, value)
		if err != nil {
			t.Fatal(err)
		}
		r.Type = types[typ]
		list = append(list, r)
	}
	if err := edit.PathRules(list, dotsInKeys); err != nil {
		t.Fatal(err)
	}
	return templates, list
}

func TestJSON(t *testing.T) {
	x := pipelinetest.NewExchange("GET", "/?q=quo%22te%0A")
	f := func(dots bool, text, want string, texts ...string) {
		t.Helper()
		templates, list := rules(t, dots, texts...)
		v := templates.Acquire(x)
		defer v.Release()
		got, changed := edit.JSON([]byte(text), list, v)
		if !changed {
			got = []byte("unchanged")
		}
		if string(got) != want {
			t.Errorf("%s %v: %s, want %s", text, texts, got, want)
		}
	}
	const doc = ` {"a": 1, "b" : {"c":[1, 2.50,{"d":"x"}]}, "e\u0066":"\"}"} `
	f(true, doc, `{"b":{"c":[1, 2.50,{"d":"x"}]},"e\u0066":"\"}"}`, "remove a")
	f(true, doc, `{"a":1,"b":{"c":[1, 2.50,{"d":"x"}]}}`, "remove ef")
	f(true, doc, "unchanged", "remove x", "replace x:1", "rename x:y", "add a:1")
	f(true, doc, `{"z":1,"b":{"c":[1, 2.50,{"d":"x"}]},"e\u0066":"\"}"}`, "rename a:z")
	f(true, doc, `{"ef":1,"b":{"c":[1, 2.50,{"d":"x"}]}}`, "rename a:ef") // the old ef gives way
	f(true, `{"a":1}`, `{"a":"v"}`, "replace a:v")
	f(true, `{"a":1}`, `{"a":1,"b":"quo\"te\n"}`, "add b:$(query_params.q)")
	f(true, `{}`, `{"a.b":"1","c":["1"]}`, "add a.b:1", "append c:1")
	f(true, ``, `{"a":"1"}`, "remove a", "add a:1")
	f(true, ``, "unchanged", "remove a", "replace a:1")
	f(true, `{"a":"x"}`, `{"a":["x","y","z"]}`, "append a:y", "append a:z")
	f(true, `{"a":[],"b":[ ],"n":null}`, `{"a":["y"],"b":["y"],"n":["y"]}`, "append a:y", "append b:y", "append n:y")
	f(true, `{"a":{}}`, `{"a":[{},"y"]}`, "append a:y")
	f(true, `{"a":1}`, `{"a":2.5,"b":true,"c":false,"d":[-1]}`, "replace/number a:2.5", "add/boolean b:true", "add/boolean c:no", "append/number d:-1")
	f(true, `{"a":1}`, "unchanged", "replace/number a:x", "replace/number a:1 ", "replace/number a:[1]", "add/number b:")
	f(true, `[1,2]`, "unchanged", "add a:1")
	f(true, `{"a":1`, "unchanged", "add b:1")
	f(true, `"text"`, "unchanged", "add b:1")
	f(true, `{"a":1,"a":2}`, `{"a":"3","a":"3"}`, "replace a:3")

	f(false, `{"a":{"b":1}}`, `{"a":{}}`, "remove a.b")
	f(false, `{"a":{"b":1}}`, `{"a":{"c":1}}`, "rename a.b:c")
	f(false, `{"a":{"b":1}}`, `{"a":{"b":1,"c":"x"},"d":{"e":"y"}}`, "add a.c:x", "add d.e:y")
	f(false, `{"a":[{"b":1},{"b":2}]}`, `{"a":[{"b":"z"},{"b":"z"}]}`, "replace a[*].b:z")
	f(false, `{"a":[1,2,3]}`, `{"a":[1,3]}`, "remove a[2]")
	f(false, `{"a":[1,2,3]}`, `{"a":["x",2,3]}`, "replace a[1]:x")
	f(false, `{"a":[1,2,3]}`, `{"a":[]}`, "remove a[*]")
	f(false, `{"a":1}`, "unchanged", "remove a[1]", "remove a.b", "replace a[9]:x", "add b[1]:x", "add a.b:1")
	f(false, `[{"a":1},{"a":2}]`, `[{"a":1,"b":"x"},{"a":2,"b":"x"}]`, "add [*].b:x")
	f(false, `{"a.b":1}`, `{}`, `remove a\.b`)
}

func TestKeep(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		var templates edit.Templates
		v := templates.Acquire(nil)
		defer v.Release()
		got, changed := edit.Keep([]byte(text), []string{"a", "c"}, v)
		if !changed {
			got = []byte("unchanged")
		}
		if string(got) != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	f(`{"a":1,"b":2,"c":[3]}`, `{"a":1,"c":[3]}`)
	f(`{"b":2}`, `{}`)
	f(`{"a":1}`, "unchanged")
	f(`[1]`, "unchanged")
	f(`{`, "unchanged")
}

func TestSetPath(t *testing.T) {
	f := func(text, path, value, want string) {
		t.Helper()
		p := edit.DottedPath(path)
		var got []byte
		var ok bool
		if value == "" {
			got, ok = edit.RemovePath(nil, []byte(text), p)
		} else {
			got, ok = edit.SetPath(nil, []byte(text), p, []byte(value))
		}
		if !ok {
			got = []byte("unchanged")
		}
		if string(got) != want {
			t.Errorf("%s %s=%s: %s", text, path, value, got)
		}
	}
	f(`{"a":{"b":1}}`, "a.b", "2", `{"a":{"b":2}}`)
	f(`{"a":{"b":1}}`, "a.c.d", "2", `{"a":{"b":1,"c":{"d":2}}}`)
	f(`{}`, `a\.b`, "2", `{"a.b":2}`)
	f(`{"a":1}`, "a.b", "2", "unchanged")
	f(`{"a":{"b":1}}`, "a.b", "", `{"a":{}}`)
	f(`{"a":{"b":1}}`, "a.c", "", "unchanged")
}

func TestPathErrors(t *testing.T) {
	for _, path := range []string{"", "a.", ".a", "a[", "a[x]", "a[0]", "a[1]b", "a..b"} {
		if p, err := edit.ParsePath(path); err == nil {
			t.Errorf("%q: accepted as %v", path, p)
		}
	}
}

func TestArgs(t *testing.T) {
	x := pipelinetest.NewExchange("GET", "/?v=a%26b%3Dc%0D%0Ax")
	f := func(text, want string, texts ...string) {
		t.Helper()
		templates, list := rules(t, true, texts...)
		v := templates.Acquire(x)
		defer v.Release()
		got, changed := edit.Args([]byte(text), list, v)
		if string(got) != want || changed != (text != want) {
			t.Errorf("%s %v: %s (%v), want %s", text, texts, got, changed, want)
		}
	}
	f("a=1&b=2&a=3", "b=2", "remove a")
	f("a=1&b=2", "a=1&b=2", "remove c", "replace c:1", "rename c:d", "add a:2")
	f("%61=1&b=%7e&c", "b=%7e&c", "remove a") // what is not named keeps its bytes
	f("a=1&b=2&a&c=0", "d=1&b=2&d&c=0", "rename a:d")
	f("a=1&b=2", "b=1", "rename a:b")
	f("b=2&a=1", "b=1", "rename a:b")
	f("a=1&b=2&a=3", "a=x%20y&b=2", "replace a:x y")
	f("", "a=1", "add a:1")
	f("a=1", "a=1&b=2&a=3", "add b:2", "append a:3")
	f("a=1", "a=1&h=a%26b%3Dc%0D%0Ax", "add h:$(query_params.v)")
	f("a=1", "", "remove a")
	f("a=1&b=2", "c=2", "remove a", "rename b:c")
}

func TestHeaders(t *testing.T) {
	x := pipelinetest.NewExchange("GET", "/?v=x%0D%0AInjected:1%00")
	f := func(want string, texts ...string) {
		t.Helper()
		templates, list := rules(t, true, texts...)
		var h fasthttp.ResponseHeader
		h.SetNoDefaultContentType(true)
		h.Add("X-A", "1")
		h.Add("X-A", "2")
		h.Add("X-B", "3")
		h.Add("Set-Cookie", "a=b")
		h.Add("Set-Cookie", "c=d")
		v := templates.Acquire(x)
		defer v.Release()
		edit.Headers(&h, edit.HeaderRules(list), v)
		var got []string
		for name, value := range h.All() {
			got = append(got, string(name)+"="+string(value))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%v: %s, want %s", texts, s, want)
		}
	}
	const cookies = "Set-Cookie=a=b Set-Cookie=c=d "
	f(cookies+"X-B=3", "remove x-a")
	f(cookies+"X-B=3 X-C=1 X-C=2", "remove x-c", "rename x-a:x-c", "rename none:x-b")
	f(cookies+"X-B=1 X-B=2", "rename x-a:x-b")
	f(cookies+"X-A=1 X-A=2 X-B=3", "rename x-a:X-a", "replace none:1", "add x-a:9", "remove content-length", "add transfer-encoding:x")
	f(cookies+"X-B=3 X-A=9", "replace x-a:9")
	f(cookies+"X-A=1 X-A=2 X-B=3 X-A=3 X-New=v", "append x-a:3", "add x-new:v")
	f(cookies+"X-A=1 X-A=2 X-B=3 X-C=xInjected:1", "add x-c:$(query_params.v)")
	f("X-A=1 X-A=2 X-B=3 X-Cookie=a=b X-Cookie=c=d", "rename set-cookie:x-cookie")
	f(cookies+"X-A=1 X-A=2 X-B=3", "rename x-a:$(query_params.v)") // no field name
	f(cookies+"X-B=3 Dyn=1 Dyn=2", "rename x-a:$('dyn')")
}

func BenchmarkJSON(b *testing.B) {
	x := pipelinetest.NewExchange("GET", "/")
	templates, list := rules(b, true, "remove internal", "replace api_version:v2", "add gateway_timestamp:$(timestamp)")
	text := []byte(`{"internal":"x","api_version":"v1","items":[` + strings.Repeat(`{"id":1,"name":"thing"},`, 40) + `{}]}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		v := templates.Acquire(x)
		edit.JSON(text, list, v)
		v.Release()
	}
}

// FuzzJSON compares with decoding, changing and encoding by encoding/json.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":[{"a":"}"}]}`, `{"\u0061":null, "c" : "\\\"" }`, `[{"a":1}]`, ` {"b":{"a":{}}} `} {
		f.Add(s, "a", "v")
		f.Add(s, "b", "a")
	}
	x := pipelinetest.NewExchange("GET", "/")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		if strings.Contains(value, "$(") || !utf8.ValidString(name) || !utf8.ValidString(value) || !utf8.ValidString(text) {
			return
		}
		for _, op := range []edit.Op{edit.Remove, edit.Rename, edit.Replace, edit.Add} {
			var templates edit.Templates
			r, err := templates.Rule(op, name, value)
			if err != nil {
				t.Fatal(err)
			}
			r.Path = edit.Key(name)
			v := templates.Acquire(x)
			got, changed := edit.JSON([]byte(text), []edit.Rule{r}, v)
			check(t, text, op, [2]string{name, value}, got, changed)
			v.Release()
		}
	})
}

func check(t *testing.T, text string, op edit.Op, nv [2]string, got []byte, changed bool) {
	t.Helper()
	want := map[string]any{}
	if text != "" && json.Unmarshal([]byte(text), &want) != nil || want == nil {
		if changed {
			t.Fatalf("%q: changed to %q", text, got)
		}
		return
	}
	old, has := want[nv[0]]
	switch {
	case op == edit.Remove:
		delete(want, nv[0])
	case op == edit.Rename && has:
		delete(want, nv[0])
		want[nv[1]] = old
	case op == edit.Replace && has, op == edit.Add && !has:
		want[nv[0]] = nv[1]
	}
	if !changed {
		if has == (op != edit.Add) {
			t.Fatalf("%q op %d %q: not changed", text, op, nv)
		}
		return
	}
	var have map[string]any
	if err := json.Unmarshal(got, &have); err != nil {
		t.Fatalf("%q op %d %q: %q: %v", text, op, nv, got, err)
	}
	if !reflect.DeepEqual(have, want) {
		t.Fatalf("%q op %d %q: %q, want %v", text, op, nv, got, want)
	}
}

// FuzzAppendQuoted: the text is ASCII and encoding/json reads back what was put
// in, with U+FFFD for what is not UTF-8.
func FuzzAppendQuoted(f *testing.F) {
	for _, s := range []string{"", "plain", "é€😀", "\x00\x1f\"\\\n\r\t\x7f", "\xff\xc0", "\u2028", "a\xed\xa0\x80b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := edit.AppendQuoted(nil, s)
		for _, c := range got {
			if c < ' ' || c > '~' {
				t.Fatalf("%q: byte %#x in %q", s, c, got)
			}
		}
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %q: %v", s, got, err)
		}
		want := string([]rune(s)) // each byte that is not UTF-8 becomes U+FFFD
		if back != want {
			t.Fatalf("%q: read back as %q", s, back)
		}
		if string(edit.AppendQuoted(nil, []byte(s))) != string(got) {
			t.Fatalf("%q: bytes and string differ", s)
		}
	})
}

// FuzzArgs compares with net/url, for texts it reads.
func FuzzArgs(f *testing.F) {
	f.Add("a=1&b=2&a=3", "a", "x y")
	f.Add("%61=&&b", "b", "a")
	x := pipelinetest.NewExchange("GET", "/")
	f.Fuzz(func(t *testing.T, text, name, value string) {
		if _, err := url.ParseQuery(text); err != nil || name == "" || value == "" || strings.Contains(value, "$(") {
			return
		}
		for _, op := range []edit.Op{edit.Remove, edit.Rename, edit.Replace, edit.Add, edit.Append} {
			want, err := url.ParseQuery(text)
			if err != nil {
				t.Fatal(err)
			}
			var templates edit.Templates
			r, err := templates.Rule(op, name, value)
			if err != nil {
				t.Fatal(err)
			}
			v := templates.Acquire(x)
			out, _ := edit.Args([]byte(text), []edit.Rule{r}, v)
			old, has := want[name]
			switch {
			case op == edit.Remove:
				want.Del(name)
			case op == edit.Rename && has:
				want.Del(name)
				want[value] = old
			case op == edit.Replace && has, op == edit.Add && !has:
				want[name] = []string{value}
			case op == edit.Append:
				want[name] = append(want[name], value)
			}
			got, err := url.ParseQuery(string(out))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q op %d %q:%q: %q is %v (%v), want %v", text, op, name, value, out, got, err, want)
			}
			v.Release()
		}
	})
}
