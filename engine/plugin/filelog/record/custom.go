package record

import (
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// custom is one entry of custom_fields_by_lua.
type custom struct {
	path   edit.Path
	key    []byte // `,"name":` for those put at the end
	source source
}

// source is a compiled piece of Lua.
type source struct {
	kind  sourceKind
	value []byte // JSON of a literal, canonical name of a header
}

type sourceKind uint8

const (
	sourceNil sourceKind = iota
	sourceLiteral
	sourceRequestHeader
	sourceMethod
	sourcePath
	sourceResponseHeader
	sourceStatus
	sourceClientIP
)

// calls are the functions of Kong's plugin kit that are built in.
var calls = map[string]sourceKind{
	"kong.request.get_header":      sourceRequestHeader,
	"kong.request.get_method":      sourceMethod,
	"kong.request.get_path":        sourcePath,
	"kong.response.get_header":     sourceResponseHeader,
	"kong.response.get_status":     sourceStatus,
	"kong.client.get_ip":           sourceClientIP,
	"kong.client.get_forwarded_ip": sourceClientIP,
}

// FieldError says which custom field cannot be compiled, and why.
type FieldError struct {
	Name   string
	Reason error
}

// Error names the field and the reason.
func (e *FieldError) Error() string {
	return fmt.Sprintf("custom_fields_by_lua.%s: %v", e.Name, e.Reason)
}

// Unwrap returns the reason.
func (e *FieldError) Unwrap() error { return e.Reason }

// CheckField says what is wrong with one entry of custom_fields_by_lua, nil if
// nothing is.
func CheckField(name, lua string) error {
	if slices.Contains(strings.Split(strings.ReplaceAll(name, `\.`, "_"), "."), "") {
		return errors.New("empty name of a field")
	}
	_, err := compileLua(lua)
	return err
}

var errLua = errors.New("this Lua expression is not built yet; what is: return with nil, true, false, a string, a number, " +
	"kong.request.get_header('name'), get_method() or get_path(), kong.response.get_header('name') or get_status(), kong.client.get_ip()")

// compileLua understands `return <literal or call>`.
func compileLua(text string) (source, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "return")
	if !ok || rest != "" && !strings.ContainsAny(rest[:1], " \t\r\n'\"(") {
		return source{}, errLua
	}
	rest = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), ";"))
	switch {
	case rest == "" || rest == "nil":
		return source{}, nil
	case rest == "true" || rest == "false":
		return source{sourceLiteral, []byte(rest)}, nil
	case rest[0] == '\'' || rest[0] == '"':
		s, err := luaString(rest)
		return source{sourceLiteral, edit.AppendQuoted(nil, s)}, err
	case rest[0] >= '0' && rest[0] <= '9' || rest[0] == '-':
		f, err := strconv.ParseFloat(rest, 64)
		if err != nil || strings.ContainsAny(rest, "xXpP_iInN") {
			return source{}, errLua
		}
		return source{sourceLiteral, strconv.AppendFloat(nil, f, 'g', 14, 64)}, nil
	}
	name, arguments, ok := strings.Cut(rest, "(")
	kind, known := calls[strings.TrimSpace(name)]
	argument, closed := strings.CutSuffix(arguments, ")")
	if !ok || !known || !closed {
		return source{}, errLua
	}
	argument = strings.TrimSpace(argument)
	if kind != sourceRequestHeader && kind != sourceResponseHeader {
		if argument != "" {
			return source{}, errLua
		}
		return source{kind: kind}, nil
	}
	header, err := luaString(argument)
	if err == nil && !edit.IsToken(header) {
		err = fmt.Errorf("%q is not a header name", header)
	}
	return source{kind, []byte(textproto.CanonicalMIMEHeaderKey(header))}, err
}

// luaString reads a quoted string without escapes.
func luaString(s string) (string, error) {
	if len(s) < 2 || s[0] != '\'' && s[0] != '"' || s[len(s)-1] != s[0] || strings.ContainsAny(s[1:len(s)-1], "\\\n"+s[:1]) {
		return "", errLua
	}
	return s[1 : len(s)-1], nil
}

// append appends the value as JSON; false for nil.
func (c *source) append(dst []byte, x *pipeline.Exchange) ([]byte, bool) {
	switch c.kind {
	case sourceLiteral:
		return append(dst, c.value...), true
	case sourceMethod:
		return edit.AppendQuoted(dst, x.Method()), true
	case sourcePath:
		return edit.AppendQuoted(dst, x.Path), true
	case sourceStatus:
		return strconv.AppendInt(dst, int64(x.Ctx.Response.StatusCode()), 10), true
	case sourceClientIP:
		dst = append(dst, '"')
		return append(x.AppendClientIP(dst), '"'), true
	case sourceRequestHeader:
		return appendHeader(dst, &x.Ctx.Request.Header, c.value)
	case sourceResponseHeader:
		return appendHeader(dst, &x.Ctx.Response.Header, c.value)
	}
	return dst, false
}

var _, _ peeker = (*fasthttp.RequestHeader)(nil), (*fasthttp.ResponseHeader)(nil)

type peeker interface{ PeekCanonical(key []byte) []byte }

func appendHeader(dst []byte, h peeker, name []byte) ([]byte, bool) {
	value := h.PeekCanonical(name)
	if value == nil {
		return dst, false
	}
	return edit.AppendQuoted(dst, value), true
}

// appendCustom ends the record that begins at mark, custom fields included.
func (e *Encoder) appendCustom(dst []byte, mark int, x *pipeline.Exchange, s *scratch) []byte {
	for i := range e.plain {
		c := &e.plain[i]
		before := len(dst)
		var ok bool
		if dst, ok = c.source.append(append(dst, c.key...), x); !ok {
			dst = dst[:before]
		}
	}
	dst = append(dst, '}')
	if len(e.edits) == 0 {
		return dst
	}
	// Slow path: fields within the record. Each is one pass over it.
	text, spare := s.a[:0], s.b
	text = append(text, dst[mark:]...)
	for i := range e.edits {
		c := &e.edits[i]
		value, ok := c.source.append(s.value[:0], x)
		s.value = value
		out, changed := spare[:0], false
		if ok {
			out, changed = edit.SetPath(out, text, c.path, value)
		} else {
			out, changed = edit.RemovePath(out, text, c.path)
		}
		if changed {
			text, spare = out, text
		}
	}
	s.a, s.b = text, spare
	return append(dst[:mark], text...)
}
