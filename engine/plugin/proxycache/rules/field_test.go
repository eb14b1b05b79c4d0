package rules

import (
	"strings"
	"testing"
)

func fields(t *testing.T, names string, stored, updated bool) {
	t.Helper()
	for name := range strings.FieldsSeq(names) {
		for _, n := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			if got := StoredField([]byte(n)); got != stored {
				t.Errorf("%s: stored %v, want %v", n, got, stored)
			}
			if got := Updatable([]byte(n)); got != updated {
				t.Errorf("%s: updated %v, want %v", n, got, updated)
			}
		}
	}
}

// RFC 9111 3.1: all fields are stored, known or not, but those of a connection.
func TestFieldsStoredExceptHopByHop(t *testing.T) {
	fields(t, "Connection Keep-Alive Proxy-Connection TE Transfer-Encoding Upgrade Trailer", false, false)
}

// RFC 9111 3.1: fields of the proxy between are not stored.
func TestFieldsStoredExceptProxy(t *testing.T) {
	fields(t, "Proxy-Authenticate Proxy-Authentication-Info Proxy-Authorization", false, false)
}

// RFC 9111 3.2: a 304 replaces all fields it has but those the stored bytes depend on.
func TestFieldsUpdated(t *testing.T) {
	fields(t, "Test-Header X-Foo Content-Foo Cache-Control Content-Location Content-MD5 Content-Security-Policy Content-Type Clear-Site-Data "+
		"ETag Expires Last-Modified Date Age Vary Set-Cookie X-Frame-Options Proxy-Status Content-Lengthy t x", true, true)
	fields(t, "Content-Length Content-Encoding Content-Range", true, false)
}

// RFC 9110 7.6.1: a field that Connection names is of the connection.
func TestFieldsNamedByConnection(t *testing.T) {
	f := func(list, name string, want bool) {
		t.Helper()
		if ListHas([]byte(list), []byte(name)) != want {
			t.Errorf("%q has %q: want %v", list, name, want)
		}
	}
	f("close, X-Foo", "x-foo", true)
	f("x-foo", "X-FOO", true)
	f(",\tx-foo\t,", "x-foo", true)
	f("x-foobar, x-fo, x foo", "x-foo", false)
	f("", "x-foo", false)
	f(",,", "", false)
}

// RFC 9110 9.2.1, RFC 9111 4.4: every method that is not known to be safe is unsafe.
func TestMethodsUnsafe(t *testing.T) {
	for _, m := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"} {
		if Unsafe([]byte(m)) {
			t.Errorf("%s is unsafe", m)
		}
	}
	for _, m := range []string{"POST", "PUT", "DELETE", "PATCH", "CONNECT", "PURGE", "FOO", "get", "", "GETX"} {
		if !Unsafe([]byte(m)) {
			t.Errorf("%s is safe", m)
		}
	}
}

// RFC 9111 4.4: an answer without error to an unsafe method invalidates.
func TestInvalidatesOnNonError(t *testing.T) {
	f := func(method string, code int, want bool) {
		t.Helper()
		if Invalidates([]byte(method), code) != want {
			t.Errorf("%s %d: want %v", method, code, want)
		}
	}
	f("POST", 200, true)
	f("PUT", 204, true)
	f("DELETE", 303, true)
	f("FOO", 399, true)
	f("POST", 199, false)
	f("POST", 400, false)
	f("POST", 500, false)
	f("GET", 200, false)
	f("HEAD", 200, false)
}
