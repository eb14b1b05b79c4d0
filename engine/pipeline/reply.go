package pipeline

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"
	"github.com/valyala/fasthttp"
)

// Reply is an answer rendered at load time: status, headers and body, the body
// in each form a client may ask for. Immutable, safe for concurrent use.
type Reply struct {
	status  int
	message string
	headers []header
	forms   [formCount]form
	fixed   bool // one body for everyone: forms[0]
	proxy   bool // the form falls back to the request's Content-Type and error_default_type
	grpc    string
}

type header struct{ name, value string }

// form is a body with a gap for the request id.
type form struct {
	contentType string
	head, tail  []byte
	hasID       bool
}

const (
	formJSON = iota
	formPlain
	formXML
	formHTML
	formCount
)

// NewReply returns a refusal with Kong's error body: JSON, text, XML or HTML by
// the request's Accept header, JSON when it has no preference. An application/grpc
// request gets an empty body with grpc-status and grpc-message.
func NewReply(status int, message string) *Reply {
	r := &Reply{status: status, message: message, grpc: strconv.Itoa(grpcStatus(status))}
	for i := range r.forms {
		r.forms[i] = renderForm(i, defaultTemplates[i], message)
	}
	return r
}

// NewFault is NewReply for what the proxy itself reports (a service that cannot
// be reached, a malformed request): without an Accept header the form follows
// the request's Content-Type, else gateway.error_default_type.
func NewFault(status int, message string) *Reply {
	r := NewReply(status, message)
	r.proxy = true
	return r
}

// NewJSONReply returns an answer with the compact body {"message":"..."} that
// Kong's plugins give by kong.response.exit: no request id, no negotiation.
// An empty message gives an empty body.
func NewJSONReply(status int, message string) *Reply {
	var body []byte
	if message != "" {
		body, _ = json.Marshal(struct { // a string always marshals
			Message string `json:"message"`
		}{message})
	}
	return NewRawReply(status, "application/json; charset=utf-8", body)
}

// NewRawReply returns an answer with this very body. It keeps body.
func NewRawReply(status int, contentType string, body []byte) *Reply {
	r := &Reply{status: status, fixed: true}
	r.forms[0] = form{contentType: contentType, head: body}
	return r
}

// With returns a copy of r with one more header; name in canonical form.
func (r *Reply) With(name, value string) *Reply {
	c := *r
	c.headers = append(slices.Clip(c.headers), header{name, value})
	return &c
}

// Status returns the status code of r.
func (r *Reply) Status() int { return r.status }

// write makes r the response of x.
func (r *Reply) write(x *Exchange) {
	resp := &x.Ctx.Response
	ClearResponse(resp)
	resp.SetStatusCode(r.status)
	h := &resp.Header
	h.SetServer(x.Errors.Server)
	for i := range r.headers {
		h.SetCanonical(stringBytes(r.headers[i].name), stringBytes(r.headers[i].value))
	}
	if r.grpc != "" && isGRPC(x) {
		h.SetContentType("application/grpc")
		h.SetCanonical(stringBytes("Grpc-Status"), stringBytes(r.grpc))
		h.SetCanonical(stringBytes("Grpc-Message"), stringBytes(r.message))
		resp.SetStatusCode(http.StatusOK)
		return
	}
	f := &r.forms[0]
	if !r.fixed {
		i := r.pick(x)
		if f = &r.forms[i]; x.Errors.custom[i] != "" {
			// Slow path: the operator's own template.
			own := renderForm(i, x.Errors.custom[i], r.message)
			f = &own
		}
	}
	h.SetContentType(f.contentType)
	resp.AppendBody(f.head)
	if f.hasID {
		resp.AppendBody(x.RequestID[:])
		resp.AppendBody(f.tail)
	}
}

// ClearResponse empties resp for another answer. A proxy invents no content type.
func ClearResponse(resp *fasthttp.Response) {
	resp.Reset()
	resp.Header.SetNoDefaultContentType(true)
}

func isGRPC(x *Exchange) bool {
	return bytes.HasPrefix(x.Ctx.Request.Header.ContentType(), stringBytes("application/grpc"))
}

func (r *Reply) pick(x *Exchange) int {
	if accept := x.Ctx.Request.Header.Peek("Accept"); len(accept) > 0 {
		if i := acceptedForm(accept); i >= 0 {
			return i
		}
		return formJSON // anything, or nothing we have
	}
	if !r.proxy {
		return formJSON
	}
	if i := mediaForm(x.Ctx.Request.Header.ContentType()); i >= 0 {
		return i
	}
	return x.Errors.fallback
}

// acceptedForm returns the form with the highest quality in an Accept header,
// the first among equals, or -1 if it accepts anything or nothing we have.
func acceptedForm(accept []byte) int {
	best, bestQ := -1, -1.0
	for len(accept) > 0 {
		var part []byte
		part, accept, _ = bytes.Cut(accept, []byte{','})
		media, params, _ := bytes.Cut(part, []byte{';'})
		q := quality(params)
		if q <= bestQ || q == 0 {
			continue
		}
		media = bytes.TrimSpace(media)
		if bytes.Equal(media, stringBytes("*/*")) {
			best, bestQ = -1, q
		} else if i := mediaForm(media); i >= 0 {
			best, bestQ = i, q
		}
	}
	return best
}

func quality(params []byte) float64 {
	for len(params) > 0 {
		var p []byte
		p, params, _ = bytes.Cut(params, []byte{';'})
		p = bytes.TrimSpace(p)
		if len(p) > 2 && p[0]|0x20 == 'q' && p[1] == '=' {
			return parseQuality(p[2:])
		}
	}
	return 1
}

// parseQuality reads 0, 1, 0.7 and the like; anything else counts as 1.
func parseQuality(b []byte) float64 {
	q, scale, dot := 0.0, 1.0, false
	for _, c := range b {
		switch {
		case c == '.' && !dot:
			dot = true
		case c >= '0' && c <= '9' && dot:
			scale /= 10
			q += float64(c-'0') * scale
		case c >= '0' && c <= '9':
			q = q*10 + float64(c-'0')
		default:
			return 1
		}
	}
	return min(q, 1)
}

// mediaForm returns the form for a media type, or -1. Kong: application/* is
// answered with JSON, text/* with plain text, where there is nothing closer.
func mediaForm(media []byte) int {
	media, _, _ = bytes.Cut(media, []byte{';'})
	media = bytes.TrimSpace(media)
	switch {
	case bytes.EqualFold(media, stringBytes("text/html")):
		return formHTML
	case bytes.EqualFold(media, stringBytes("application/xml")), bytes.EqualFold(media, stringBytes("text/xml")):
		return formXML
	case len(media) > 12 && bytes.EqualFold(media[:12], stringBytes("application/")):
		return formJSON
	case len(media) > 5 && bytes.EqualFold(media[:5], stringBytes("text/")):
		return formPlain
	}
	return -1
}

var formTypes = [formCount]string{
	"application/json; charset=utf-8", "text/plain; charset=utf-8",
	"application/xml; charset=utf-8", "text/html; charset=utf-8",
}

var defaultTemplates = [formCount]string{
	"{\n  \"message\":\"%s\",\n  \"request_id\":\"%s\"\n}",
	"%s\nrequest_id: %s\n",
	"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>%s</message>\n  <requestid>%s</requestid>\n</error>\n",
	"<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n" +
		"    <h1>Error</h1>\n    <p>%s.</p>\n    <p>request_id: %s</p>\n  </body>\n</html>\n",
}

// renderForm fills the message into a template with two %s, message and request id.
func renderForm(i int, template, message string) form {
	f := form{contentType: formTypes[i]}
	before, rest, found := strings.Cut(template, "%s")
	if !found {
		f.head = []byte(template)
		return f
	}
	head, tail, hasID := strings.Cut(rest, "%s")
	f.hasID = hasID
	f.head = []byte(before + escape(i, message) + head)
	f.tail = []byte(tail)
	return f
}

func escape(i int, s string) string {
	switch i {
	case formJSON:
		quoted, _ := json.MarshalWithOption(s, json.DisableHTMLEscape()) // a string always marshals
		return string(quoted[1 : len(quoted)-1])
	case formXML, formHTML:
		return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
	}
	return s
}

// ErrorStyle is how a gateway words its own errors. Immutable.
type ErrorStyle struct {
	Server   string // value of the Server header on answers the gateway makes, "" for none
	fallback int
	custom   [formCount]string
}

// NewErrorStyle makes the style for gateway.error_default_type and the texts of
// error_template_json, _plain, _xml and _html (empty: Kong's).
func NewErrorStyle(server, defaultType string, templates [4]string) *ErrorStyle {
	s := &ErrorStyle{Server: server, fallback: formPlain, custom: templates}
	if i := mediaForm([]byte(defaultType)); i >= 0 {
		s.fallback = i
	}
	return s
}

// grpcStatus maps an HTTP status to the gRPC status Kong answers with.
func grpcStatus(status int) int {
	exact := map[int]int{200: 0, 400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 499: 1, 500: 13, 501: 12, 503: 14, 504: 4}
	if s, ok := exact[status]; ok {
		return s
	}
	switch {
	case status < 300:
		return 0
	case status < 400:
		return 2
	case status < 500:
		return 9
	}
	return 13
}
