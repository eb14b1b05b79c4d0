package upstream

import (
	"bytes"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// pathRule is how a route and its service shape the path that goes out.
type pathRule struct {
	service string // service.path, "" read as "/"
	strip   bool
	v1      bool // path_handling v1: no slash is inserted between the parts
}

// appendPath appends the path for x, per section "path handling" of Kong's
// proxy: S is the service's path, R the normalized request path, T what is left
// of R after the matched prefix.
func (r *pathRule) appendPath(dst []byte, x *pipeline.Exchange) []byte {
	if x.UpstreamPath != nil {
		return append(dst, x.UpstreamPath...)
	}
	s, path := r.service, x.Path
	if s == "" {
		s = "/"
	}
	endsInSlash := s[len(s)-1] == '/'
	if !r.strip {
		switch {
		case endsInSlash || r.v1:
			return append(append(dst, s...), path[1:]...)
		case len(path) == 1:
			return append(dst, s...)
		}
		return append(append(dst, s...), path...)
	}
	rest := trimDots(path[x.MatchLen:])
	switch {
	case r.v1:
		if endsInSlash && len(rest) > 0 && rest[0] == '/' {
			rest = rest[1:]
		}
		return append(append(dst, s...), rest...)
	case len(rest) == 0:
		return appendBare(dst, s, path, endsInSlash)
	}
	dst = append(dst, s...)
	switch {
	case endsInSlash && rest[0] == '/':
		rest = rest[1:]
	case !endsInSlash && rest[0] != '/':
		dst = append(dst, '/')
	}
	return append(dst, rest...)
}

// appendBare is v0 when the match took the whole path: the request's own
// trailing slash decides whether the service's path ends in one.
func appendBare(dst []byte, s string, path []byte, endsInSlash bool) []byte {
	requestSlash := path[len(path)-1] == '/'
	switch {
	case endsInSlash && !requestSlash && len(s) > 1:
		return append(dst, s[:len(s)-1]...)
	case !endsInSlash && requestSlash && len(path) > 1:
		return append(append(dst, s...), '/')
	}
	return append(dst, s...)
}

// trimDots drops "./" and "../" at the start of what a prefix left over, so
// that a match inside a segment ("/a" of "/a../b") cannot climb out.
func trimDots(rest []byte) []byte {
	for {
		switch {
		case bytes.HasPrefix(rest, []byte("./")):
			rest = rest[2:]
		case bytes.HasPrefix(rest, []byte("../")):
			rest = rest[3:]
		case len(rest) == 1 && rest[0] == '.', len(rest) == 2 && rest[0] == '.' && rest[1] == '.':
			return nil
		default:
			return rest
		}
	}
}
