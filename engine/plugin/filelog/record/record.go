// Package record makes Kong's log record of an Exchange: one JSON object with
// the request, the answer, the latencies, the attempts and who called. It is for
// the plugins that log; it knows no file and no network.
//
//	request                id, uri, url, querystring, method, headers, size, tls
//	upstream_uri           path and query the service was asked for, "" if it was not
//	upstream_status        the service's status, a list if there were several attempts
//	response               status, headers, size
//	latencies              kong, proxy (-1 if not proxied), request, receive; milliseconds
//	tries                  balancer_start, balancer_latency (until connected; also in _ns), ip, port, state, code
//	authenticated_entity   id, consumer_id
//	route, service         as configured
//	consumer               id, username, custom_id, created_at
//	client_ip, started_at, source, workspace, workspace_name, correlation_id
//
// What does not apply is left out. Header names are lower case, a header or
// argument that occurs several times is a list, and the values of Authorization
// and Proxy-Authorization are "REDACTED". At most 200 headers and 100 arguments
// are shown. The text is ASCII without control
// bytes, so that no client can forge a line. A workspace has no id here: both
// fields hold its name.
//
// custom_fields_by_lua maps names to Lua; of it only "return" with one of these is
// understood, and anything else refused when the document is loaded:
//
//	nil  true  12  'text'
//	kong.request.get_header('name')   kong.request.get_method()   kong.request.get_path()
//	kong.response.get_header('name')  kong.response.get_status()
//	kong.client.get_ip()              kong.client.get_forwarded_ip()
//
// nil removes the field, a dot in the name leads into an object, \. is a dot.
package record

import (
	"bytes"
	"crypto/tls"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template/edit"
	"github.com/sluice-gateway/sluice/engine/template/form"
)

// Encoder makes records with the entities of one document. Immutable, safe for
// concurrent use.
type Encoder struct {
	entities []entity // by route index
	tail     []byte   // fields that are the same in every record
	plain    []custom // put at the end
	edits    []custom // lead into the record
}

// scratch is what an Append needs for a while.
type scratch struct {
	pairs []pair
	names []byte // decoded names and values of arguments
	value []byte // of a custom field
	a, b  []byte // the record, while custom fields are put into it
}

// pair is a header or an argument.
type pair struct {
	name, value []byte
	bare        bool // an argument without an equals sign
	done        bool
}

// scratchKept is the capacity above which a buffer is not pooled.
const scratchKept = 64 << 10

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	clear(s.pairs) // they point into the request
	for _, b := range []*[]byte{&s.names, &s.value, &s.a, &s.b} {
		if cap(*b) > scratchKept {
			*b = nil
		}
	}
	scratches.Put(s)
}

// Append appends the record of x, without a line end. It is for Log hooks: the
// answer is final. It allocates nothing once its buffers have grown.
func (e *Encoder) Append(dst []byte, x *pipeline.Exchange) []byte {
	s := scratches.Get().(*scratch)
	mark := len(dst)
	dst = append(dst, `{"request":{`...)
	dst = appendRequest(dst, x, s)
	dst = append(dst, `},"upstream_uri":`...)
	dst = edit.AppendQuoted(dst, x.UpstreamURI)
	dst = append(dst, `,"upstream_status":"`...)
	dst = appendUpstreamStatus(dst, x)
	dst = append(dst, `","response":{"status":`...)
	dst = strconv.AppendInt(dst, int64(x.Ctx.Response.StatusCode()), 10)
	dst = append(dst, `,"headers":{`...)
	s.pairs = s.pairs[:0]
	for name, value := range x.Ctx.Response.Header.All() {
		s.pairs = append(s.pairs, pair{name: name, value: value})
	}
	dst = s.appendPairs(dst, true)
	dst = append(dst, `},"size":`...)
	dst = strconv.AppendInt(dst, x.BytesOut, 10)
	dst = append(dst, `},"latencies":{`...)
	dst = appendLatencies(dst, x)
	dst = append(dst, `},"tries":[`...)
	dst = appendTries(dst, x)
	dst = append(dst, ']')
	dst = e.appendIdentity(dst, x)
	dst = append(dst, `,"client_ip":"`...)
	dst = x.AppendClientIP(dst)
	dst = append(dst, `","started_at":`...)
	dst = strconv.AppendInt(dst, x.WallMillis(), 10)
	if x.Source == pipeline.SourceService {
		dst = append(dst, `,"source":"upstream"`...)
	} else {
		dst = append(dst, `,"source":"kong"`...)
	}
	if len(x.CorrelationID) > 0 {
		dst = append(dst, `,"correlation_id":`...)
		dst = edit.AppendQuoted(dst, x.CorrelationID)
	}
	dst = append(dst, e.tail...)
	dst = e.appendCustom(dst, mark, x, s)
	s.release()
	return dst
}

func appendRequest(dst []byte, x *pipeline.Exchange, s *scratch) []byte {
	h := &x.Ctx.Request.Header
	uri := h.RequestURI()
	dst = append(dst, `"id":"`...)
	dst = append(dst, x.RequestID[:]...)
	dst = append(dst, `","uri":`...)
	dst = edit.AppendQuoted(dst, uri)
	dst = append(dst, `,"url":"`...)
	if x.Secure {
		dst = append(dst, "https://"...)
	} else {
		dst = append(dst, "http://"...)
	}
	host := h.Host()
	dst = edit.AppendEscaped(dst, host)
	if x.Port > 0 && bytes.LastIndexByte(host, ':') <= bytes.LastIndexByte(host, ']') {
		dst = append(dst, ':')
		dst = strconv.AppendUint(dst, uint64(x.Port), 10)
	}
	dst = edit.AppendEscaped(dst, uri)
	dst = append(dst, `","querystring":{`...)
	_, query, _ := bytes.Cut(uri, []byte{'?'})
	s.arguments(query)
	dst = s.appendPairs(dst, false)
	dst = append(dst, `},"method":`...)
	dst = edit.AppendQuoted(dst, h.Method())
	dst = append(dst, `,"headers":{`...)
	s.pairs = s.pairs[:0]
	for name, value := range h.All() {
		s.pairs = append(s.pairs, pair{name: name, value: value})
	}
	dst = s.appendPairs(dst, true)
	dst = append(dst, `},"size":`...)
	dst = strconv.AppendInt(dst, x.BytesIn, 10)
	if c, ok := x.Ctx.Conn().(interface{ ConnectionState() tls.ConnectionState }); ok {
		dst = appendTLS(dst, c.ConnectionState())
	}
	return dst
}

// appendTLS takes the state by value: fasthttp's accessor would allocate it.
func appendTLS(dst []byte, c tls.ConnectionState) []byte {
	version := "unknown"
	switch c.Version {
	case tls.VersionTLS10:
		version = "TLSv1"
	case tls.VersionTLS11:
		version = "TLSv1.1"
	case tls.VersionTLS12:
		version = "TLSv1.2"
	case tls.VersionTLS13:
		version = "TLSv1.3"
	}
	verify := "NONE"
	if len(c.VerifiedChains) > 0 {
		verify = "SUCCESS"
	} else if len(c.PeerCertificates) > 0 {
		verify = "FAILED"
	}
	dst = append(append(dst, `,"tls":{"version":"`...), version...)
	dst = append(append(dst, `","cipher":"`...), tls.CipherSuiteName(c.CipherSuite)...)
	dst = append(append(dst, `","client_verify":"`...), verify...)
	return append(dst, `"}`...)
}

// argumentsMax is how many arguments a record shows (Kong: 100).
const argumentsMax = 100

// arguments takes a query string apart into pairs.
func (s *scratch) arguments(query []byte) {
	s.pairs, s.names = s.pairs[:0], s.names[:0]
	for len(query) > 0 && len(s.pairs) < argumentsMax {
		var name, value []byte
		var found bool
		name, value, found, query = form.Next(query)
		if len(name) == 0 {
			continue
		}
		// Growing names leaves the older slices in the old memory, which is fine.
		start := len(s.names)
		s.names = form.AppendDecoded(s.names, name)
		split := len(s.names)
		s.names = form.AppendDecoded(s.names, value)
		s.pairs = append(s.pairs, pair{name: s.names[start:split], value: s.names[split:], bare: !found})
	}
}

// headersMax bounds how many headers a record shows, and so the work of finding
// those that occur several times.
const headersMax = 200

// appendPairs writes pairs as members of an object, those of one name as a list.
func (s *scratch) appendPairs(dst []byte, headers bool) []byte {
	pairs := s.pairs[:min(len(s.pairs), headersMax)]
	first := true
	for i := range pairs {
		p := &pairs[i]
		if p.done {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if headers {
			dst = appendLower(dst, p.name)
		} else {
			dst = edit.AppendQuoted(dst, p.name)
		}
		dst = append(dst, ':')
		mark, several := len(dst), false
		dst = p.append(dst, headers)
		for j := i + 1; j < len(pairs); j++ {
			o := &pairs[j]
			if len(o.name) != len(p.name) || !bytes.Equal(o.name, p.name) {
				continue
			}
			if !several {
				several = true
				dst = append(dst, 0)
				copy(dst[mark+1:], dst[mark:])
				dst[mark] = '['
			}
			dst = o.append(append(dst, ','), headers)
			o.done = true
		}
		if several {
			dst = append(dst, ']')
		}
	}
	return dst
}

func (p *pair) append(dst []byte, headers bool) []byte {
	switch {
	case p.bare:
		return append(dst, "true"...)
	case headers && (string(p.name) == fasthttp.HeaderAuthorization || string(p.name) == fasthttp.HeaderProxyAuthorization):
		return append(dst, `"REDACTED"`...)
	}
	return edit.AppendQuoted(dst, p.value)
}

// appendLower appends a header name as a JSON string. Names are tokens, which
// need no escapes, but what a service sends is not checked by everyone.
func appendLower(dst, name []byte) []byte {
	start := len(dst) + 1
	dst = edit.AppendQuoted(dst, name)
	for i := start; i < len(dst); i++ {
		if c := dst[i]; c >= 'A' && c <= 'Z' {
			dst[i] = c + 'a' - 'A'
		}
	}
	return dst
}

func appendUpstreamStatus(dst []byte, x *pipeline.Exchange) []byte {
	mark := len(dst)
	for i := range x.Tries {
		if t := &x.Tries[i]; t.Failed && t.Status > 0 {
			if len(dst) > mark {
				dst = append(dst, ", "...)
			}
			dst = strconv.AppendInt(dst, int64(t.Status), 10)
		}
	}
	if x.UpstreamStatus > 0 {
		if len(dst) > mark {
			dst = append(dst, ", "...)
		}
		dst = strconv.AppendInt(dst, int64(x.UpstreamStatus), 10)
	}
	return dst
}

// appendLatencies: what the gateway took is the time until the service was
// called, or all of it if it was not (Kong).
func appendLatencies(dst []byte, x *pipeline.Exchange) []byte {
	total := max(x.End-x.Start, 0)
	kong, proxy, receive := total, int64(-1), int64(0)
	if x.UpstreamStart > 0 {
		kong = max(x.UpstreamStart-x.Start, 0)
		if x.UpstreamHeaders > 0 {
			proxy = millis(x.UpstreamHeaders - x.UpstreamStart)
			receive = millis(x.End - x.UpstreamHeaders)
		}
	}
	dst = strconv.AppendInt(append(dst, `"kong":`...), millis(kong), 10)
	dst = strconv.AppendInt(append(dst, `,"proxy":`...), proxy, 10)
	dst = strconv.AppendInt(append(dst, `,"request":`...), millis(total), 10)
	return strconv.AppendInt(append(dst, `,"receive":`...), receive, 10)
}

func millis(nanos int64) int64 { return max(nanos, 0) / int64(time.Millisecond) }

func appendTries(dst []byte, x *pipeline.Exchange) []byte {
	for i := range x.Tries {
		t := &x.Tries[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		start := pipeline.WallNanos(t.Start)
		dst = strconv.AppendInt(append(dst, `{"balancer_start":`...), start/int64(time.Millisecond), 10)
		dst = strconv.AppendInt(append(dst, `,"balancer_start_ns":`...), start, 10)
		dst = strconv.AppendInt(append(dst, `,"balancer_latency":`...), millis(t.Connect), 10)
		dst = strconv.AppendInt(append(dst, `,"balancer_latency_ns":`...), t.Connect, 10)
		host, port := splitTarget(t.Target)
		dst = edit.AppendQuoted(append(dst, `,"ip":`...), host)
		if port != "" {
			dst = append(append(dst, `,"port":`...), port...)
		}
		if t.Failed {
			dst = append(dst, `,"state":"failed","code":`...)
			dst = strconv.AppendInt(dst, int64(t.Status), 10)
		}
		dst = append(dst, '}')
	}
	return dst
}

// splitTarget splits host:port; the port is "" unless it is a number.
func splitTarget(target string) (host, port string) {
	for i := len(target) - 1; i >= 0; i-- {
		c := target[i]
		if c == ':' && i+1 < len(target) && target[i+1] != '0' {
			host = target[:i]
			if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
				host = host[1 : n-1]
			}
			return host, target[i+1:]
		}
		if c < '0' || c > '9' {
			break
		}
	}
	return target, ""
}
