package upstream

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// hopFields are the fields of a response that belong to the connection to the
// service (RFC 9110 section 7.6.1).
var hopFields = [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Trailer", "Te"}

// hopTrailer is the bit of Trailer, which goes on to a client that wants it.
const hopTrailer = 1 << 5

// hopStripper removes hopFields and what Connection names. Most responses have
// one or none of them, so it looks before it deletes.
type hopStripper struct {
	found uint8  // bit i: hopFields[i]
	named []byte // value of the Connection field
	visit func(key, value []byte) bool
}

func (s *hopStripper) field(key, value []byte) bool {
	switch string(key) {
	case "Connection":
		s.found |= 1 << 0
		s.named = append(append(s.named, value...), ',')
	case "Keep-Alive":
		s.found |= 1 << 1
	case "Proxy-Connection":
		s.found |= 1 << 2
	case "Transfer-Encoding":
		s.found |= 1 << 3
	case "Upgrade":
		s.found |= 1 << 4
	case "Trailer":
		s.found |= hopTrailer
	case "Te":
		s.found |= 1 << 6
	}
	return true
}

func (s *hopStripper) clean(h *fasthttp.ResponseHeader, keepTrailer bool) {
	s.found, s.named = 0, s.named[:0]
	h.All()(s.visit)
	if keepTrailer {
		s.found &^= hopTrailer
	}
	if s.found == 0 {
		return
	}
	for i, name := range hopFields {
		if s.found&(1<<i) != 0 {
			h.Del(name)
		}
	}
	for rest := s.named; len(rest) > 0; {
		var name []byte
		name, rest, _ = bytes.Cut(rest, []byte{','})
		if name = bytes.TrimSpace(name); len(name) > 0 && !bytes.EqualFold(name, []byte("Content-Length")) {
			h.DelBytes(name)
		}
	}
}
