package pipeline

import (
	"net/url"
	"strings"
	"testing"
)

func TestRemoveArgument(t *testing.T) {
	f := func(args, name, want string) {
		t.Helper()
		if got := string(RemoveArgument([]byte(args), name)); got != want {
			t.Errorf("RemoveArgument(%q, %q) = %q, want %q", args, name, got, want)
		}
		if has := HasArgument([]byte(args), name); has != (args != want) {
			t.Errorf("HasArgument(%q, %q) = %v", args, name, has)
		}
	}
	f("", "k", "")
	f("k=1", "k", "")
	f("k", "k", "")
	f("k=1&a=%41+b&k=2", "k", "a=%41+b")
	f("a=1&k=1&b=2", "k", "a=1&b=2")
	f("a=1&&b=2", "k", "a=1&&b=2")
	f("%6B=1&a", "k", "a")
	f("a%20b=1&c", "a b", "c")
	f("a+b=1&c", "a b", "c")
	f("kk=1&K=2&=k", "k", "kk=1&K=2&=k")
	f("%6=1&%zz=2", "%6", "%zz=2")
}

func FuzzArguments(f *testing.F) {
	f.Add("a=1&b=%41&c", "b")
	f.Add("k=%zz&%6B=1", "k")
	f.Fuzz(func(t *testing.T, args, name string) {
		left := string(RemoveArgument([]byte(args), name))
		if HasArgument([]byte(left), name) && left != "" {
			t.Fatalf("%q still has %q after removal: %q", args, name, left)
		}
		if !HasArgument([]byte(args), name) && left != args {
			t.Fatalf("%q without %q became %q", args, name, left)
		}
		// On well-formed input we agree with the standard library.
		if values, err := url.ParseQuery(args); err == nil && name != "" && !strings.Contains(args, ";") {
			if _, has := values[name]; has != HasArgument([]byte(args), name) {
				t.Fatalf("HasArgument(%q, %q) = %v, url.ParseQuery says %v", args, name, !has, has)
			}
		}
		if want, err := url.QueryUnescape(args); err == nil {
			if got := string(AppendDecoded(nil, []byte(args))); got != want {
				t.Fatalf("AppendDecoded(%q) = %q, want %q", args, got, want)
			}
		}
	})
}
