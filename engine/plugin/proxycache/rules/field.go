package rules

// StoredField reports whether a field of an answer is stored with it: all are, known
// or not, but those of one connection and of proxy authentication (RFC 9111 3.1), and
// Trailer, since trailers are not stored. name may be in any case. Fields that
// Connection names are not stored either: see ListHas.
func StoredField(name []byte) bool {
	switch len(name) {
	case len("te"):
		return !is(name, "te")
	case len("upgrade"):
		return !is(name, "upgrade") && !is(name, "trailer")
	case len("connection"):
		return !is(name, "connection") && !is(name, "keep-alive")
	case len("proxy-connection"):
		return !is(name, "proxy-connection")
	case len("transfer-encoding"):
		return !is(name, "transfer-encoding")
	case len("proxy-authenticate"):
		return !is(name, "proxy-authenticate")
	case len("proxy-authorization"):
		return !is(name, "proxy-authorization")
	case len("proxy-authentication-info"):
		return !is(name, "proxy-authentication-info")
	}
	return true
}

// Updatable reports whether a field of a 304, or of the answer to HEAD, replaces that
// of the stored answer (RFC 9111 3.2, 4.3.4, 4.3.5): all that are stored do, but
// Content-Length, and Content-Encoding and Content-Range, on which the stored bytes
// depend.
func Updatable(name []byte) bool {
	switch len(name) {
	case len("content-range"):
		return !is(name, "content-range")
	case len("content-length"):
		return !is(name, "content-length")
	case len("content-encoding"):
		// As long as proxy-connection, hence both here.
		return !is(name, "content-encoding") && !is(name, "proxy-connection")
	}
	return StoredField(name)
}

// Unsafe reports whether a method may change something, which is so for every method
// not known to be safe (RFC 9110 9.2.1, and those of the registry: PROPFIND, QUERY,
// REPORT, SEARCH). Methods are compared in their case.
func Unsafe(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH":
		return false
	}
	return true
}

// Invalidates reports whether the stored answers of a URI no longer count after an
// answer with this status to this method (RFC 9111 4.4).
func Invalidates(method []byte, status int) bool {
	return status >= 200 && status < 400 && Unsafe(method)
}
