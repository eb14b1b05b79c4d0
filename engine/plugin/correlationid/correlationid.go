// Package correlationid is the correlation-id plugin: every request carries an id
// in a header, so that what several services log about it can be brought together.
//
//	plugins:
//	- name: correlation-id
//	  config:
//	    header_name: X-Correlation-ID
//	    generator: uuid
//	    echo_downstream: true
//
// A client's own id is kept if it is not empty. Otherwise generator makes one:
//
//	uuid          a random UUID (RFC 9562, version 4)
//	uuid#counter  a UUID of this process, #, and a number that grows
//	tracker       address-port-process-connection-requests-time of the connection
//
// The service receives it in header_name, the access log under correlation_id,
// and with echo_downstream the client in the same header of every answer, also of
// one the gateway makes.
//
// The numbers of uuid#counter grow in several sequences at once, each with a UUID
// of its own, as they do in Kong with several worker processes.
package correlationid

import (
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("correlation-id", defaults, build)

// correlation is one configured instance.
type correlation struct {
	header    []byte // in canonical form
	generator string
	sequences *sequences // of uuid#counter
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	s, err := pipeline.Keep(env, "correlation-id", newSequences)
	if err != nil {
		return pipeline.Hooks{}, err
	}
	k := &correlation{
		header:    fasthttp.AppendNormalizedHeaderKey(nil, c.HeaderName),
		generator: c.Generator,
		sequences: s,
	}
	h := pipeline.Hooks{Request: k.request}
	if c.EchoDownstream {
		h.Response = k.echo
	}
	return h, nil
}

// request is hot: it copies the client's id, or makes one in a buffer on the stack.
func (k *correlation) request(x *pipeline.Exchange) pipeline.Verdict {
	k.identify(x)
	return pipeline.Next
}

// echo also serves answers given before this plugin's turn had come.
func (k *correlation) echo(x *pipeline.Exchange) {
	if x.CorrelationID == nil {
		k.identify(x)
	}
	x.Ctx.Response.Header.SetCanonical(k.header, x.CorrelationID)
}

func (k *correlation) identify(x *pipeline.Exchange) {
	if id := x.Ctx.Request.Header.PeekCanonical(k.header); len(id) > 0 {
		x.CorrelationID = x.Hold(id)
		return
	}
	var buf [128]byte
	x.CorrelationID = x.Hold(k.generate(buf[:0], x))
	x.Ctx.Request.Header.SetCanonical(k.header, x.CorrelationID)
}

// generate is a switch rather than a function chosen at load: through a function
// value dst would escape to the heap.
func (k *correlation) generate(dst []byte, x *pipeline.Exchange) []byte {
	switch k.generator {
	case "uuid":
		return appendRandom(dst)
	case "tracker":
		return appendTracker(dst, x)
	}
	return k.sequences.append(dst, x)
}

// appendRandom appends a random UUID. The source is ChaCha8, seeded by the
// operating system: ids cannot be guessed from earlier ones.
func appendRandom(dst []byte) []byte {
	return appendUUID(dst, rand.Uint64(), rand.Uint64())
}

// appendUUID appends 122 of the bits as a version 4 UUID (RFC 9562, section 5.4).
func appendUUID(dst []byte, high, low uint64) []byte {
	var raw [16]byte
	for i := range 8 {
		raw[i], raw[8+i] = byte(high>>(56-8*i)), byte(low>>(56-8*i))
	}
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	dst = append(hex.AppendEncode(dst, raw[:4]), '-')
	dst = append(hex.AppendEncode(dst, raw[4:6]), '-')
	dst = append(hex.AppendEncode(dst, raw[6:8]), '-')
	dst = append(hex.AppendEncode(dst, raw[8:10]), '-')
	return hex.AppendEncode(dst, raw[10:])
}

// sequences are what uuid#counter counts with: several, so that cores do not
// share a counter. One set a process, whatever instances use it.
type sequences [16]sequence

type sequence struct {
	n    atomic.Uint64
	uuid [36]byte
	_    [84]byte // two cache lines each: adjacent lines are fetched in pairs
}

func newSequences() (*sequences, error) {
	s := new(sequences)
	for i := range s {
		appendRandom(s[i].uuid[:0])
	}
	return s, nil
}

func (s *sequences) append(dst []byte, x *pipeline.Exchange) []byte {
	q := &s[x.ConnID%uint64(len(s))]
	dst = append(append(dst, q.uuid[:]...), '#')
	return strconv.AppendUint(dst, q.n.Add(1), 10)
}

var process = uint64(os.Getpid())

// appendTracker appends where and when the request came in, like
// 192.0.2.7-8000-1234-56-3-1795429800.125.
func appendTracker(dst []byte, x *pipeline.Exchange) []byte {
	if a, ok := x.Ctx.LocalAddr().(*net.TCPAddr); ok {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			dst = ip.Unmap().AppendTo(dst)
		}
	}
	dst = strconv.AppendUint(append(dst, '-'), uint64(x.Port), 10)
	dst = strconv.AppendUint(append(dst, '-'), process, 10)
	dst = strconv.AppendUint(append(dst, '-'), x.ConnID, 10)
	dst = strconv.AppendUint(append(dst, '-'), x.ConnRequest, 10)
	ms := uint64(x.WallMillis())
	dst = strconv.AppendUint(append(dst, '-'), ms/1000, 10)
	return append(dst, '.', byte('0'+ms/100%10), byte('0'+ms/10%10), byte('0'+ms%10))
}
