package form_test

import (
	"net/url"
	"testing"

	"github.com/sluice-gateway/sluice/engine/template/form"
)

func TestAppendValue(t *testing.T) {
	f := func(text, name, want string, ok bool) {
		t.Helper()
		got, found := form.AppendValue(nil, []byte(text), name)
		if string(got) != want || found != ok {
			t.Errorf("%q of %q: %q, %v", name, text, got, found)
		}
	}
	f("a=1&b=2", "b", "2", true)
	f("a=1&a=2", "a", "1", true)
	f("a=x+y%20z", "a", "x y z", true)
	f("%61=1", "a", "1", true)
	f("a%5B%5D=1", "a[]", "1", true)
	f("a", "a", "true", true)
	f("a=", "a", "", true)
	f("ab=1", "a", "", false)
	f("a=1", "ab", "", false)
	f("", "a", "", false)
	f("a=%zz%4", "a", "%zz%4", true)
	f("&&a=1", "a", "1", true)
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("a", "b c&d=é\x00")
	f.Fuzz(func(t *testing.T, name, value string) {
		text := form.AppendEncoded(nil, name)
		text = form.AppendEncoded(append(text, '='), value)
		got, ok := form.AppendValue(nil, append([]byte("zz=1&"), text...), name)
		if name == "zz" {
			return
		}
		if !ok || string(got) != value {
			t.Fatalf("%q=%q: %q, %v in %q", name, value, got, ok, text)
		}
		if v, err := url.ParseQuery(string(text)); err != nil || v.Get(name) != value {
			t.Fatalf("net/url reads %q as %v, %v", text, v, err)
		}
	})
}
