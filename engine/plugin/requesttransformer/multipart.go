package requesttransformer

import (
	"bytes"

	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// parts goes through a multipart body (RFC 2046 section 5.1.1). It holds no copy.
type parts struct {
	rest, boundary []byte
	raw            []byte // the part at hand: header lines, an empty line, content
	closed         bool   // the closing delimiter was reached
}

// next moves to the next part. False at the end, closed or cut short.
func (p *parts) next() bool {
	at, n := delimiter(p.rest, p.boundary)
	if at < 0 {
		return false
	}
	p.rest = p.rest[at+n:]
	if bytes.HasPrefix(p.rest, []byte("--")) {
		p.closed = true
		return false
	}
	line := bytes.Index(p.rest, []byte("\r\n"))
	if line < 0 {
		return false
	}
	// The line end stays in rest: a part without content has its delimiter there.
	p.rest = p.rest[line:]
	end, _ := delimiter(p.rest[2:], p.boundary)
	if end < 0 {
		return false
	}
	p.raw, p.rest = p.rest[2:2+end], p.rest[2+end:]
	return true
}

// delimiter finds "--boundary" at the start of s or of a line in it: where it
// begins, the line end before it included, and how long it is. -1: nowhere.
func delimiter(s, boundary []byte) (at, n int) {
	for from := 0; ; {
		i := bytes.Index(s[from:], boundary)
		if i < 0 {
			return -1, 0
		}
		i += from
		after := s[i+len(boundary):]
		ends := len(after) > 0 && (after[0] == '\r' || after[0] == ' ' || after[0] == '\t') || bytes.HasPrefix(after, []byte("--"))
		switch {
		case !ends: // a longer word
		case i == 2 && string(s[:2]) == "--":
			return 0, 2 + len(boundary)
		case i >= 4 && string(s[i-4:i]) == "\r\n--":
			return i - 4, 4 + len(boundary)
		}
		from = i + 1
	}
}

// editParts applies rules to the simple fields and files of a multipart body. The
// result is in v.A if anything changed. A body that is malformed stays as it is;
// rules that append do nothing (Kong).
func editParts(body, boundary []byte, rules []edit.Rule, v *edit.Values) ([]byte, bool) {
	if !wellFormed(body, boundary) {
		return body, false
	}
	changed := false
	for i := range rules {
		r := &rules[i]
		has := hasPart(body, boundary, r.Name)
		if has == (r.Op == edit.Add) || r.Op == edit.Append {
			continue
		}
		v.B = editPart(v.B[:0], body, boundary, &partRule{r, v.Safe(r)})
		v.A, v.B = v.B, v.A
		body, changed = v.A, true
	}
	return body, changed
}

type partRule struct {
	*edit.Rule
	value []byte
}

func editPart(dst, body, boundary []byte, r *partRule) []byte {
	replaced := false
	for p := (parts{rest: body, boundary: boundary}); p.next(); {
		from, to := nameOf(p.raw)
		name := p.raw[from:to]
		same := string(name) == r.Name
		switch {
		case same && r.Op == edit.Remove:
		case same && r.Op == edit.Rename:
			dst = append(appendBoundary(dst, boundary), p.raw[:from]...)
			dst = append(append(appendName(dst, r.value), p.raw[to:]...), '\r', '\n')
		case r.Op == edit.Rename && bytes.Equal(name, r.value): // gives way to the renamed one
		case same && r.Op == edit.Replace:
			if !replaced {
				dst = appendField(dst, boundary, r)
			}
			replaced = true
		default:
			dst = append(append(appendBoundary(dst, boundary), p.raw...), '\r', '\n')
		}
	}
	if r.Op == edit.Add {
		dst = appendField(dst, boundary, r)
	}
	return append(append(append(dst, "--"...), boundary...), "--\r\n"...)
}

func appendBoundary(dst, boundary []byte) []byte {
	return append(append(append(dst, "--"...), boundary...), "\r\n"...)
}

func appendField(dst, boundary []byte, r *partRule) []byte {
	dst = append(appendBoundary(dst, boundary), "Content-Disposition: form-data; name=\""...)
	dst = append(appendName(dst, []byte(r.Name)), "\"\r\n\r\n"...)
	return append(append(dst, r.value...), "\r\n"...)
}

// appendName escapes what would end a quoted name, as browsers do.
func appendName(dst, name []byte) []byte {
	for _, c := range name {
		if c == '"' {
			dst = append(dst, "%22"...)
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func wellFormed(body, boundary []byte) bool {
	p := parts{rest: body, boundary: boundary}
	for p.next() {
		if !bytes.Contains(p.raw, []byte("\r\n\r\n")) {
			return false
		}
	}
	return p.closed
}

func hasPart(body, boundary []byte, name string) bool {
	for p := (parts{rest: body, boundary: boundary}); p.next(); {
		from, to := nameOf(p.raw)
		if string(p.raw[from:to]) == name {
			return true
		}
	}
	return false
}

// nameOf finds the name parameter in the Content-Disposition of a part; an empty
// range if there is none.
func nameOf(raw []byte) (from, to int) {
	head := raw[:max(bytes.Index(raw, []byte("\r\n\r\n")), 0)]
	for start := 0; start < len(head); {
		end := len(head)
		if i := bytes.Index(head[start:], []byte("\r\n")); i >= 0 {
			end = start + i
		}
		const field = "content-disposition:"
		if line := head[start:end]; len(line) > len(field) && bytes.EqualFold(line[:len(field)], []byte(field)) {
			from, to = nameParameter(line)
			return start + from, start + to
		}
		start = end + 2
	}
	return 0, 0
}

func nameParameter(line []byte) (from, to int) {
	quoted := false
	for i := range line {
		switch {
		case line[i] == '"' && line[i-1] != '\\':
			quoted = !quoted
		case quoted || line[i] != ';':
		default:
			j := i + 1
			for j < len(line) && line[j] == ' ' {
				j++
			}
			const parameter = "name="
			if len(line) < j+len(parameter) || !bytes.EqualFold(line[j:j+len(parameter)], []byte(parameter)) {
				continue
			}
			from = j + len(parameter)
			if from < len(line) && line[from] == '"' {
				if n := bytes.IndexByte(line[from+1:], '"'); n >= 0 {
					return from + 1, from + 1 + n
				}
			}
			if n := bytes.IndexByte(line[from:], ';'); n >= 0 {
				return from, from + n
			}
			return from, len(line)
		}
	}
	return 0, 0
}
