package router

import (
	"bytes"
	"errors"
	"testing"
)

func TestNormalizePath(t *testing.T) {
	f := func(raw, want string) {
		t.Helper()
		in := []byte(raw)
		got, err := NormalizePath(make([]byte, 3, 8), in)
		if err != nil || string(got) != want {
			t.Errorf("NormalizePath(%q) = %q, %v, want %q", raw, got, err, want)
		}
		if string(in) != raw {
			t.Errorf("NormalizePath(%q) changed its argument to %q", raw, in)
		}
		if raw == want && &got[0] != &in[0] {
			t.Errorf("NormalizePath(%q) copied a path that is normalized", raw)
		}
	}
	f("/", "/")
	f("//", "/")
	f("/a/b", "/a/b")
	f("/a//b///c", "/a/b/c")
	f("/a/", "/a/")
	f("/a//", "/a/")
	f("/.", "/")
	f("/..", "/")
	f("/../../a", "/a")
	f("/a/.", "/a/")
	f("/a/..", "/")
	f("/a/b/..", "/a/")
	f("/a/b/../", "/a/")
	f("/a/./b/../../c", "/c")
	f("/a//../b", "/b")
	f("/a/.//b", "/a/b")
	f("/a/..//b", "/b")
	f("/.well-known/x", "/.well-known/x")
	f("/a/...", "/a/...")
	f("/a/..b/.c/d.", "/a/..b/.c/d.")
	f("/%61%7E%2d%5F", "/a~-_")
	f("/a/%2e%2E/b", "/b")
	f("/a/%2e./b/%2E", "/b/")
	f("/a%2fb", "/a%2Fb")
	f("/a%2Fb%3a%25", "/a%2Fb%3A%25")
	f("/%2561", "/%2561")
	f("/caf%C3%A9%20x", "/caf\u00e9 x")
	f("/%5c%7c%0A", "/\\|\n")
	f("/%21%23%24%25%26%27%28%29%2A%2B%2C%2F%3A%3B%3D%3F%40%5B%5D", "/%21%23%24%25%26%27%28%29%2A%2B%2C%2F%3A%3B%3D%3F%40%5B%5D")

	bad := func(raw string, want error) {
		t.Helper()
		if got, err := NormalizePath(nil, []byte(raw)); !errors.Is(err, want) || got != nil {
			t.Errorf("NormalizePath(%q) = %q, %v, want error %v", raw, got, err, want)
		}
	}
	bad("", ErrPathNotAbsolute)
	bad("*", ErrPathNotAbsolute)
	bad("a/b", ErrPathNotAbsolute)
	bad("/%", ErrPathEscape)
	bad("/%4", ErrPathEscape)
	bad("/%zz", ErrPathEscape)
	bad("/%4g", ErrPathEscape)
	bad("/%00", ErrPathNUL)
	bad("/\x00", ErrPathNUL)
	bad("/a\tb", ErrPathControl)
	bad("/a\x7f", ErrPathControl)
	bad("/../%", ErrPathEscape)
}

func TestEscapePath(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		in := []byte(path)
		got := EscapePath(nil, in)
		if string(got) != want {
			t.Errorf("EscapePath(%q) = %q, want %q", path, got, want)
		}
		if path == want && &got[0] != &in[0] {
			t.Errorf("EscapePath(%q) copied a path that may be sent", path)
		}
	}
	f("/a/b-._~!$&'()*+,;=:@", "/a/b-._~!$&'()*+,;=:@")
	f("/a%2Fb", "/a%2Fb")
	f("/caf\u00e9 x", "/caf%C3%A9%20x")
	f("/\r\n\"<>\\^`{|}\x7f\xff", "/%0D%0A%22%3C%3E%5C%5E%60%7B%7C%7D%7F%FF")
}

func TestAmbiguities(t *testing.T) {
	f := func(raw string, want Ambiguity) {
		t.Helper()
		if got := Ambiguities([]byte(raw)); got != want {
			t.Errorf("Ambiguities(%q) = %b, want %b", raw, got, want)
		}
	}
	f("/a/b%20c%C3%A9", 0)
	f("/a%2fb", EncodedSlash)
	f("/a%2Fb", EncodedSlash)
	f(`/a\b`, Backslash)
	f("/a%5cb", Backslash)
	f("/a%252fb", DoubleEncoding)
	f("/a%25b", 0)
	f("/a%25zz%25", 0)
	f("/a%0d%0A", EncodedControl)
	f("/a%3fb%23", EncodedDelimiter)
	f("/%2F%5C%2541%7f%3F", EncodedSlash|Backslash|DoubleEncoding|EncodedControl|EncodedDelimiter)
	f("/%2", 0)
}

func FuzzNormalizePath(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e//x", "/%25%32%66", "/a%zz", "//./..", "/%c3%a9"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := NormalizePath(nil, raw)
		if err != nil {
			return
		}
		if len(got) == 0 || got[0] != '/' || len(got) > len(raw) {
			t.Fatalf("%q became %q", raw, got)
		}
		for _, bad := range []string{"//", "/./", "/../"} {
			if bytes.Contains(got, []byte(bad)) {
				t.Fatalf("%q became %q, which has %q", raw, got, bad)
			}
		}
		// What is sent reads as what was matched.
		again, err := NormalizePath(nil, EscapePath(nil, got))
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q became %q, and after escaping %q, %v", raw, got, again, err)
		}
	})
}
