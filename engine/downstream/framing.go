package downstream

import "bytes"

// Head is what a look at the raw header block of a request found out.
type Head struct {
	// Malformed says that the block must not be passed on: it could read
	// differently to the service than to us. The request is answered 400.
	Malformed bool
	// Forwarding: a field of X-Forwarded-* or X-Real-IP is there.
	Forwarding bool
	// Connection: the Connection field may name fields to remove.
	Connection bool
	// Chunked: a Transfer-Encoding field is there.
	Chunked bool
	// Length: a Content-Length field is there.
	Length bool
	// TooMany says that the block has more than FieldsMax fields. It is answered 431.
	TooMany bool
	// Upgrade: the client asks for another protocol.
	Upgrade bool
	// Unusual: a field that only the full server handles is there: Expect,
	// Upgrade, Transfer-Encoding.
	Unusual bool
}

// FieldsMax is how many header fields a request may have: each costs memory that
// is many times its size on the wire, and keeps it.
const FieldsMax = 200

// Inspect checks the framing of a request's header block, from after the request
// line up to and including the empty line, by rules stricter than the parser's
// (RFC 9112 sections 2.2, 5.1, 5.2, 6.1, 6.3): bare LF, folded lines, spaces in or
// after a field name, Content-Length beside Transfer-Encoding, and any transfer
// coding but chunked make a block malformed. It allocates nothing.
func Inspect(block []byte) Head {
	var h Head
	fields := 0
	for len(block) > 0 {
		end := bytes.IndexByte(block, '\n')
		if end < 1 || block[end-1] != '\r' {
			h.Malformed = true
			return h
		}
		line := block[:end-1]
		block = block[end+1:]
		if len(line) == 0 {
			h.Malformed = h.Malformed || len(block) > 0
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || bytes.IndexByte(line, '\r') >= 0 {
			h.Malformed = true
			return h
		}
		if fields++; fields > FieldsMax {
			h.TooMany, h.Unusual = true, true
			return h
		}
		h.note(line[:colon], line[colon+1:])
	}
	if h.Chunked && h.Length {
		h.Malformed = true
	}
	return h
}

// note looks at one field. Names are told apart by first letter and length
// before they are compared.
func (h *Head) note(name, value []byte) {
	for _, c := range name {
		if !tokenByte[c] {
			h.Malformed = true
			return
		}
	}
	switch name[0] | 0x20 {
	case 'x':
		if fold(name, "x-real-ip") || len(name) > 12 && fold(name[:12], "x-forwarded-") {
			h.Forwarding = true
		}
	case 'c':
		switch {
		case fold(name, "connection"):
			h.Connection = true
		case fold(name, "content-length"):
			h.Malformed = h.Malformed || h.Length || !digits(bytes.TrimSpace(value))
			h.Length = true
		}
	case 't':
		if fold(name, "transfer-encoding") {
			h.Malformed = h.Malformed || h.Chunked || !fold(bytes.TrimSpace(value), "chunked")
			h.Chunked, h.Unusual = true, true
		}
	case 'e':
		h.Unusual = h.Unusual || fold(name, "expect")
	case 'u':
		if fold(name, "upgrade") {
			h.Upgrade, h.Unusual = true, true
		}
	}
}

// fold compares name with lower, which is in lower case, without regard to case.
func fold(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range name {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func digits(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// tokenByte marks the bytes a field name may have (RFC 9110 section 5.6.2).
var tokenByte = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()
