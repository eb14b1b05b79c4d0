// Package requesttransformer is the plugins request-transformer and
// request-transformer-advanced: they change a request before the service gets it.
//
//	http_method              method sent to the service
//	remove                   names
//	rename                   old:new
//	replace                  name:value, only where the name is there
//	add                      name:value, only where it is not
//	append                   name:value, in any case
//
// each of them (but http_method) for headers, querystring and body, and
// replace.uri for the whole path sent to the service.
//
// The order is: uri, method, headers, body, query; within each remove, rename,
// replace, add, append. Values may hold templates (package template), which see
// the request as it was before this plugin.
//
// Headers: any case matches, names are sent in canonical form. Host can only be
// changed by replace.headers. What the gateway would write itself, such as
// X-Forwarded-Proto, stays as set here (Kong overwrites it). Content-Length and
// Transfer-Encoding are never touched. CR, LF and NUL are dropped from values, so
// no template can inject a header.
//
// Query: arguments that no rule names keep their bytes and order.
//
// Body: application/json (objects; values are strings unless json_types say
// otherwise), application/x-www-form-urlencoded, and multipart/form-data, which
// has no append. A body of another type, one with a Content-Encoding or malformed
// JSON stays as it is. Rules on bodies make the gateway hold the whole request; a
// change costs no allocation beyond growing buffers, but for JSON names written
// with escapes. add and append also make a body where there is none. A method of
// GET, HEAD or TRACE moves a form body into the query.
//
// replace.uri: bytes that cannot stand in a path are escaped. A path that a
// template led out of its place, by a segment "..", is answered 400.
//
// The advanced variant adds replace, add and append.json_types, allow.body (other
// names are removed) and dots_in_keys: false, with which a.b, list[1] and list[*]
// are paths; it changes JSON bodies only.
package requesttransformer

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// Spec and Advanced are the lines these plugins add to plugin.All.
var (
	Spec = pipeline.Define("request-transformer", Config{},
		func(c Config, _ *pipeline.Env) (pipeline.Hooks, error) { return build(c.settings()) })
	Advanced = pipeline.Define("request-transformer-advanced", AdvancedConfig{DotsInKeys: true},
		func(c AdvancedConfig, _ *pipeline.Env) (pipeline.Hooks, error) { return build(c.settings()) })
)

// transformer is one instance, compiled.
type transformer struct {
	templates edit.Templates
	uri       *template.Template // nil: the path stays
	method    string             // "": the method stays
	formMoves bool               // a form body goes into the query
	host      *edit.Rule         // nil: the Host stays
	headers   []edit.Rule
	query     []edit.Rule
	body      []edit.Rule // by path, for JSON
	allow     []string
	jsonOnly  bool
	badPath   *pipeline.Reply
}

func build(s *settings) (pipeline.Hooks, error) {
	t := &transformer{
		method: s.method, allow: s.allow, jsonOnly: s.jsonOnly,
		badPath: pipeline.NewReply(fasthttp.StatusBadRequest, "Bad request"),
	}
	switch t.method {
	case fasthttp.MethodGet, fasthttp.MethodHead, fasthttp.MethodTrace:
		t.formMoves = true
	}
	if err := t.compile(s); err != nil {
		return pipeline.Hooks{}, err
	}
	buffers := len(t.body) > 0 || len(t.allow) > 0 || t.formMoves
	return pipeline.Hooks{Request: t.request, BuffersRequest: buffers}, nil
}

func (t *transformer) compile(s *settings) error {
	if s.uri != "" {
		var err error
		if t.uri, err = template.Compile(string(s.uri)); err != nil {
			return err
		}
	}
	headers, err := t.templates.Rules(s.headers())
	if err != nil {
		return err
	}
	for _, r := range edit.HeaderRules(headers) {
		switch {
		case r.Name != fasthttp.HeaderHost:
			t.headers = append(t.headers, r)
		case r.Op == edit.Replace:
			t.host = &r
		}
	}
	if t.body, err = t.templates.Rules(s.body()); err != nil {
		return err
	}
	if err = edit.PathRules(t.body, s.dotsInKeys); err != nil {
		return err
	}
	t.query, err = t.templates.Rules(s.query())
	return err
}

// request is hot. Values live until the exchange is over only if it refers to
// them: for a new path, Host or query.
func (t *transformer) request(x *pipeline.Exchange) pipeline.Verdict {
	v := t.templates.Acquire(x)
	held := false
	if t.uri != nil {
		path, ok := t.path(x, v)
		if !ok {
			v.Release()
			return x.Answer(t.badPath)
		}
		x.UpstreamPath, held = path, true
	}
	query := x.Query
	if t.method != "" {
		query = t.setMethod(x, v)
	}
	edit.Headers(&x.Ctx.Request.Header, t.headers, v)
	if t.host != nil {
		if host := v.Of(t.host); isHost(host) {
			start := len(v.C)
			v.C = append(v.C, host...)
			x.UpstreamHost, held = v.C[start:], true
		}
	}
	if len(t.body) > 0 || len(t.allow) > 0 {
		t.transformBody(x, v)
	}
	query, changed := edit.Args(query, t.query, v)
	if changed || len(query) != len(x.Query) {
		x.Query, x.HasQuery, held = query, len(query) > 0, true
	}
	if held {
		v.Hold(x, t)
	} else {
		v.Release()
	}
	return pipeline.Next
}

// setMethod sets the method and returns the query with a form body behind it, if
// the method cannot have a body.
func (t *transformer) setMethod(x *pipeline.Exchange, v *edit.Values) []byte {
	r := &x.Ctx.Request
	r.Header.SetMethod(t.method)
	if !t.formMoves || kindOf(r.Header.ContentType()) != formBody || encoded(r) {
		return x.Query
	}
	start, body := len(v.C), r.Body()
	v.C = append(v.C, x.Query...)
	if len(x.Query) > 0 && len(body) > 0 {
		v.C = append(v.C, '&')
	}
	for _, c := range body {
		if c <= ' ' || c >= 0x7f || c == '#' {
			continue // cannot stand in a query, and no form has it unescaped
		}
		v.C = append(v.C, c)
	}
	r.ResetBody()
	r.Header.SetContentLength(0)
	r.Header.Del(fasthttp.HeaderContentType)
	return v.C[start:len(v.C):len(v.C)]
}

// path renders replace.uri into v.C. False: a template put a dot segment into it.
func (t *transformer) path(x *pipeline.Exchange, v *edit.Values) ([]byte, bool) {
	start := len(v.C)
	v.A = t.uri.Append(v.A[:0], x)
	if len(v.A) == 0 || v.A[0] != '/' {
		v.C = append(v.C, '/')
	}
	v.C = appendPath(v.C, v.A)
	path := v.C[start:len(v.C):len(v.C)]
	return path, !hasDotSegment(path)
}

// appendPath appends path with the bytes escaped that cannot stand in one. A
// percent sign stays: captures come from a path that is escaped already.
func appendPath(dst, path []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range path {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>?\\^`{|}", c) >= 0 {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// hasDotSegment looks for segments "." and "..", also in escaped form.
func hasDotSegment(path []byte) bool {
	for found := true; found; {
		var segment []byte
		segment, path, found = bytes.Cut(path, []byte{'/'})
		if isDots(segment) {
			return true
		}
	}
	return false
}

func isDots(segment []byte) bool {
	dots := 0
	for ; len(segment) > 0; dots++ {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) > 2 && segment[0] == '%' && segment[1] == '2' && segment[2]|0x20 == 'e':
			segment = segment[3:]
		default:
			return false
		}
	}
	return dots == 1 || dots == 2
}

func isHost(host []byte) bool {
	for _, c := range host {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("@/\\?#,\"<>^`{|}", c) >= 0 {
			return false
		}
	}
	return len(host) > 0
}
