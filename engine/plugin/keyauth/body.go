package keyauth

import (
	"bytes"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

type bodyForm uint8

const (
	otherBody bodyForm = iota
	formBody
	jsonBody
	multipartBody
)

// formOf tells how a body is read, by its media type.
func formOf(x *pipeline.Exchange) bodyForm {
	media, _, _ := bytes.Cut(x.Ctx.Request.Header.ContentType(), []byte{';'})
	media = bytes.TrimSpace(media)
	switch {
	case bytes.EqualFold(media, viewBytes("application/x-www-form-urlencoded")):
		return formBody
	case bytes.EqualFold(media, viewBytes("application/json")):
		return jsonBody
	case bytes.EqualFold(media, viewBytes("multipart/form-data")):
		return multipartBody
	}
	return otherBody
}

// bodyKey looks for a field of the body. A body that cannot be read has none.
func bodyKey(x *pipeline.Exchange, name string, buf []byte) (key []byte, f found) {
	body := x.Ctx.Request.Body()
	switch formOf(x) {
	case formBody:
		return argument(body, name, buf)
	case jsonBody:
		return jsonKey(body, name)
	case multipartBody:
		return partKey(body, x.Ctx.Request.Header.MultipartFormBoundary(), name)
	}
	return nil, absent
}

// stripBody removes a field of the body; all other bytes stay as they are.
func stripBody(x *pipeline.Exchange, name string) {
	r := &x.Ctx.Request
	body := r.Body()
	before := len(body)
	switch formOf(x) {
	case formBody:
		body = pipeline.RemoveArgument(body, name)
	case jsonBody:
		body = removeMember(body, name)
	case multipartBody:
		body = removePart(body, r.Header.MultipartFormBoundary(), name)
	}
	if len(body) != before {
		r.SetBody(body)
		r.Header.SetContentLength(len(body))
	}
}

// member is one member of a JSON object, as offsets into its text.
type member struct {
	start, end int // from the quote of the name to the end of the value
	value      int
	named      bool // has the name looked for
}

// object walks the members of the object that is a JSON text. It checks no more
// than it needs to find their ends.
type object struct {
	text  []byte
	at    int
	begun bool
}

// next moves to the next member that can be read.
func (o *object) next(name string) (m member, ok bool) {
	before := byte('{')
	if o.begun {
		before = ','
	}
	if o.begun = true; !o.past(before) {
		return m, false
	}
	m.start = o.at
	if !o.str() {
		return m, false
	}
	m.named = isString(o.text[m.start:o.at], name)
	if !o.past(':') {
		return m, false
	}
	m.value = o.at
	if !o.skip() {
		return m, false
	}
	m.end = o.at
	return m, true
}

// past skips one character and the white space around it.
func (o *object) past(c byte) bool {
	o.space()
	if o.at >= len(o.text) || o.text[o.at] != c {
		return false
	}
	o.at++
	o.space()
	return true
}

func (o *object) space() {
	for o.at < len(o.text) && (o.text[o.at] == ' ' || o.text[o.at] == '\t' || o.text[o.at] == '\r' || o.text[o.at] == '\n') {
		o.at++
	}
}

// str skips a string.
func (o *object) str() bool {
	if o.at >= len(o.text) || o.text[o.at] != '"' {
		return false
	}
	for o.at++; o.at < len(o.text); o.at++ {
		switch o.text[o.at] {
		case '\\':
			o.at++
		case '"':
			o.at++
			return true
		}
	}
	return false
}

// skip skips a value, however deep.
func (o *object) skip() bool {
	start, depth := o.at, 0
	for o.at < len(o.text) {
		switch c := o.text[o.at]; c {
		case '"':
			if !o.str() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return o.at > start
			}
			if c == '}' || c == ']' {
				depth--
			}
		}
		o.at++
	}
	return false
}

// isString reports whether a JSON string, quotes included, says text.
func isString(quoted []byte, text string) bool {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner) == text // Fast path: no escapes.
	}
	var s string
	return json.Unmarshal(quoted, &s) == nil && s == text
}

func jsonKey(body []byte, name string) (key []byte, f found) {
	o := object{text: body}
	for m, ok := o.next(name); ok; m, ok = o.next(name) {
		if !m.named {
			continue
		}
		value := body[m.value:m.end]
		switch value[0] {
		case '"':
			if f = f.again(); f == several {
				return nil, several
			}
			if key = value[1 : len(value)-1]; bytes.IndexByte(key, '\\') >= 0 {
				var s string
				if json.Unmarshal(value, &s) != nil {
					return nil, absent
				}
				key = viewBytes(s)
			}
		case '{', '[':
			return nil, several
		}
	}
	return key, f
}

// removeMember removes every member of a name in place, with one of the commas
// beside it. What is read lies ahead of what is written.
func removeMember(body []byte, name string) []byte {
	o := object{text: body}
	c := cutter{text: body}
	kept, previous := false, 0 // a member stays before this one; where the one before ends
	for m, ok := o.next(name); ok; m, ok = o.next(name) {
		switch {
		case !m.named:
			kept = true
		case kept:
			c.cut(previous, m.end)
		default:
			end := o
			end.past(',')
			if end.at == len(body) || end.text[end.at] == '}' {
				end.at = m.end
			}
			c.cut(m.start, end.at)
		}
		previous = m.end
	}
	return c.rest()
}

// cutter removes ranges from a text in place, from front to back.
type cutter struct {
	text  []byte
	wrote int
	read  int
}

func (c *cutter) cut(start, end int) {
	c.wrote += copy(c.text[c.wrote:], c.text[c.read:start])
	c.read = end
}

func (c *cutter) rest() []byte {
	if c.read > 0 {
		c.wrote += copy(c.text[c.wrote:], c.text[c.read:])
		return c.text[:c.wrote]
	}
	return c.text
}

// part is one part of a multipart body, as offsets into it: the delimiter that
// begins it, its content, the delimiter after it.
type part struct {
	start, content, end int
}

// nextPart finds the part that begins with the delimiter at from, "--" and boundary.
func nextPart(body, boundary []byte, from int) (p part, ok bool) {
	p.start = from
	rest := body[from+2+len(boundary):]
	line := bytes.Index(rest, viewBytes("\r\n"))
	if line < 0 || len(bytes.Trim(rest[:line], " \t")) > 0 { // the last delimiter has two hyphens here
		return p, false
	}
	// The blank line may follow at once: a part without headers.
	head := bytes.Index(rest[line:], viewBytes("\r\n\r\n"))
	if head < 0 {
		return p, false
	}
	p.content = len(body) - len(rest) + line + head + 4
	at := delimiter(body, boundary, p.content-2)
	if at < 0 {
		return p, false
	}
	p.end = at
	return p, true
}

// delimiter returns where the next line that begins with "--" and boundary
// starts, searching from the CRLF at from, or -1.
func delimiter(body, boundary []byte, from int) int {
	for at := from; at < len(body); {
		i := bytes.Index(body[at:], viewBytes("\r\n--"))
		if i < 0 {
			return -1
		}
		at += i + 2
		if isDelimiter(body[at:], boundary) {
			return at
		}
	}
	return -1
}

// isDelimiter reports whether b begins with a delimiter line: "--", the boundary,
// then nothing but white space, or "--" if it is the last.
func isDelimiter(b, boundary []byte) bool {
	if !bytes.HasPrefix(b, viewBytes("--")) || !bytes.HasPrefix(b[2:], boundary) {
		return false
	}
	b = bytes.TrimLeft(b[2+len(boundary):], " \t")
	return bytes.HasPrefix(b, viewBytes("\r\n")) || bytes.HasPrefix(b, viewBytes("--"))
}

// firstDelimiter is delimiter for the one that may stand at the very beginning.
func firstDelimiter(body, boundary []byte) int {
	if len(boundary) == 0 {
		return -1
	}
	if isDelimiter(body, boundary) {
		return 0
	}
	return delimiter(body, boundary, 0)
}

func partKey(body, boundary []byte, name string) (key []byte, f found) {
	at := firstDelimiter(body, boundary)
	for at >= 0 {
		p, ok := nextPart(body, boundary, at)
		if !ok {
			break
		}
		if isPart(body[p.start:p.content], name) {
			if f = f.again(); f == several {
				return nil, several
			}
			key = body[p.content:max(p.content, p.end-2)]
		}
		at = p.end
	}
	return key, f
}

// removePart removes every part of a name in place.
func removePart(body, boundary []byte, name string) []byte {
	c := cutter{text: body}
	at := firstDelimiter(body, boundary)
	for at >= 0 {
		p, ok := nextPart(body, boundary, at)
		if !ok {
			break
		}
		if isPart(body[p.start:p.content], name) {
			c.cut(p.start, p.end)
		}
		at = p.end
	}
	return c.rest()
}

// isPart reports whether the header lines of a part give it this form name
// (RFC 7578, section 4.2).
func isPart(head []byte, name string) bool {
	const field = "content-disposition:"
	for more := true; more; {
		var line []byte
		line, head, more = bytes.Cut(head, []byte{'\n'})
		if len(line) < len(field) || !bytes.EqualFold(line[:len(field)], viewBytes(field)) {
			continue
		}
		for params := true; params; {
			var param []byte
			param, line, params = bytes.Cut(line, []byte{';'})
			key, value, _ := bytes.Cut(bytes.TrimSpace(param), equals)
			if bytes.EqualFold(key, viewBytes("name")) {
				return string(bytes.Trim(value, `"`)) == name
			}
		}
	}
	return false
}
