package proxycache

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// A key is text: who and where, method, scheme and host, path, arguments and headers,
// with zero bytes between. Kong's has the same parts but for scheme and host, without
// which one host's answer would be given under another's name.

// argumentsMax is how many arguments of a query are put in order; a longer one is part of
// the key as it stands.
const argumentsMax = 32

// keying is how an instance makes keys. Immutable.
type keying struct {
	mark    string // tells the variants of the plugin apart, which keep by rules of their own
	anyCase bool
	ordered bool     // the order of arguments counts: to RFC 9111 it is part of the URI
	params  []string // sorted; nil: all
	headers []string // sorted, canonical
}

func newKeying(c *Config) keying {
	k := keying{anyCase: c.IgnoreURICase, ordered: c.RFC, params: slices.Clone(c.VaryQueryParams)}
	slices.Sort(k.params)
	k.params = slices.Compact(k.params)
	for _, name := range c.VaryHeaders {
		k.headers = append(k.headers, string(canonical(name)))
	}
	slices.Sort(k.headers)
	k.headers = slices.Compact(k.headers)
	return k
}

// append appends the key of x's request under method. It allocates nothing.
func (k *keying) append(dst []byte, x *pipeline.Exchange, method string) []byte {
	if x.Consumer != nil {
		dst = append(append(dst, x.Consumer.ID...), ':')
	}
	if x.Route != nil {
		dst = append(dst, x.Route.ID...)
	}
	dst = append(append(append(dst, k.mark...), 0), method...)
	dst = append(dst, 0)
	if x.Secure {
		dst = append(dst, "https://"...)
	} else {
		dst = append(dst, "http://"...)
	}
	dst = appendLower(dst, x.Ctx.Request.Header.Host())
	dst = append(dst, 0)
	dst = k.appendPath(dst, x.Path)
	if x.UpstreamPath != nil { // a hook leads the request elsewhere
		dst = append(append(dst, 0), x.UpstreamPath...)
	}
	if x.UpstreamHost != nil {
		dst = append(append(dst, 0), x.UpstreamHost...)
	}
	dst = append(dst, 0)
	dst = k.appendArguments(dst, x.Query)
	h := &x.Ctx.Request.Header
	for _, name := range k.headers {
		dst = append(append(dst, 0), name...)
		for _, value := range h.PeekAll(name) {
			dst = append(append(dst, 1), value...) // no value has that byte
		}
	}
	return dst
}

func (k *keying) appendPath(dst, path []byte) []byte {
	if k.anyCase {
		return appendLower(dst, path)
	}
	return append(dst, path...)
}

// appendArguments appends the arguments that count, by name; those of one name stay in
// their order, in which they may mean something.
func (k *keying) appendArguments(dst, query []byte) []byte {
	var args [argumentsMax][]byte
	n := 0
	for rest, more := query, len(query) > 0; more; {
		var arg []byte
		arg, rest, more = pipeline.CutArgument(rest)
		if len(arg) == 0 || k.params != nil && !k.counts(arg) {
			continue
		}
		if n == len(args) {
			return append(dst, query...)
		}
		i := n
		for ; i > 0 && !k.ordered && bytes.Compare(argumentName(args[i-1]), argumentName(arg)) > 0; i-- {
			args[i] = args[i-1]
		}
		args[i] = arg
		n++
	}
	for i, arg := range args[:n] {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = append(dst, arg...)
	}
	return dst
}

func (k *keying) counts(arg []byte) bool {
	for _, name := range k.params {
		if pipeline.IsArgument(arg, name) {
			return true
		}
	}
	return false
}

func argumentName(arg []byte) []byte {
	name, _, _ := bytes.Cut(arg, []byte{'='})
	return name
}

// appendLower appends b with ASCII letters in lower case.
func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// digest names an entry for people: X-Cache-Key has it in hexadecimal.
func digest(key []byte) [sha256.Size]byte { return sha256.Sum256(key) }

// Labels are what entries are purged by. Each is a hash of a kind and a text; two that
// collide purge a little more than was asked for.
const (
	labelKey     = 'k' // a surrogate key
	labelExact   = 'p' // a path, with the service's id
	labelBelow   = 'd' // a path or one above it, with the service's id
	labelRoute   = 'r'
	labelService = 's'
	labelPlugin  = 'i'
	labelEntry   = 'e' // a digest
	labelURI     = 'u' // scheme, host and path, whatever the query
)

// Bounds of labels, of 32 that an entry may have.
const (
	depthMax = 8  // paths above; what lies deeper is purged with the last of them
	keysMax  = 18 // surrogate keys; an answer with more is not kept
)

func label(kind byte, text []byte) uint32 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write([]byte{kind}) // never fails
	_, _ = d.Write(text)
	return uint32(d.Sum64()) //nolint:gosec // G115: a part of the hash
}

func pathLabel(kind byte, service string, path []byte) uint32 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write([]byte{kind})
	_, _ = d.WriteString(service)
	_, _ = d.Write(path)
	return uint32(d.Sum64()) //nolint:gosec // G115: a part of the hash
}

// uriLabel is the label of a path at the scheme and host of x's request.
func uriLabel(x *pipeline.Exchange, path []byte) uint32 {
	scheme := "http"
	if x.Secure {
		scheme = "https"
	}
	var host [256]byte
	return pathLabel(labelURI, scheme, append(appendLower(host[:0], x.Ctx.Request.Header.Host()), path...))
}

// appendPathLabels appends the labels of an answer at path.
func appendPathLabels(dst []uint32, service string, path []byte) []uint32 {
	dst = append(dst, pathLabel(labelExact, service, trimSlash(path)), pathLabel(labelBelow, service, nil))
	depth := 1
	for i := 1; i < len(path) && depth < depthMax; i++ {
		if path[i] == '/' {
			dst = append(dst, pathLabel(labelBelow, service, path[:i]))
			depth++
		}
	}
	if depth < depthMax {
		if whole := trimSlash(path); len(whole) > 0 && len(whole) == len(path) {
			dst = append(dst, pathLabel(labelBelow, service, whole))
		}
	}
	return dst
}

// belowLabel is the label of everything at path and below.
func belowLabel(service string, path []byte) uint32 {
	path = trimSlash(path)
	depth := 1
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if depth++; depth == depthMax {
			return pathLabel(labelBelow, service, path[:i])
		}
	}
	return pathLabel(labelBelow, service, path)
}

// trimSlash returns path without a slash at its end: empty for the root.
func trimSlash(path []byte) []byte { return bytes.TrimSuffix(path, []byte{'/'}) }
