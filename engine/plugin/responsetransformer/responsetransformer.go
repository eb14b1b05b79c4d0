// Package responsetransformer is the plugins response-transformer and
// response-transformer-advanced: they change an answer before the client gets it,
// the service's as well as one the gateway made.
//
//	remove   headers and JSON members, by name
//	rename   old:new
//	replace  name:value, only where the name is there
//	add      name:value, only where it is not
//	append   name:value, in any case
//
// in this order, each for headers and json. Values may hold templates (package
// template; Kong has none here), which see the answer's status, the target and
// the latencies besides the request.
//
// Headers: any case matches, names are sent in canonical form. Content-Length and
// Transfer-Encoding are never touched. CR, LF and NUL are dropped from values.
// Settings on headers alone leave the answer streaming and allocate nothing.
//
// JSON: members of an object answered as application/json; replace.json_types,
// add.json_types and append.json_types say by place which values are not strings.
// Such settings make the gateway hold the whole answer. Malformed JSON, an answer
// with a Content-Encoding and one without a body stay as they are. A change costs
// no allocation beyond growing buffers, but for names written with escapes.
//
// The advanced variant adds if_status to each operation, allow.json (other names
// are removed), replace.body and dots_in_keys: false, with which a.b, list[1] and
// list[*] are paths. transform.functions, which are Lua, are refused.
package responsetransformer

import (
	"bytes"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// Spec and Advanced are the lines these plugins add to plugin.All.
var (
	Spec = pipeline.Define("response-transformer", Config{},
		func(c Config, _ *pipeline.Env) (pipeline.Hooks, error) { return build(c.settings()) })
	Advanced = pipeline.Define("response-transformer-advanced", AdvancedConfig{DotsInKeys: true},
		func(c AdvancedConfig, _ *pipeline.Env) (pipeline.Hooks, error) { return build(c.settings()) })
)

// transformer is one instance, compiled.
type transformer struct {
	templates edit.Templates
	groups    []group
	allow     []string
	buffers   bool
}

// group are the rules for answers of the same statuses.
type group struct {
	when    []Statuses // empty: all
	body    *edit.Rule // replaces the whole body; nil: does not
	headers []edit.Rule
	json    []edit.Rule
}

func build(s *settings) (pipeline.Hooks, error) {
	t := &transformer{allow: s.allow, buffers: len(s.allow) > 0}
	if err := t.compile(s); err != nil {
		return pipeline.Hooks{}, err
	}
	return pipeline.Hooks{Response: t.response, BuffersBody: t.buffers}, nil
}

func (t *transformer) compile(s *settings) error {
	headers, err := t.templates.Rules(s.headers())
	if err != nil {
		return err
	}
	headers = edit.HeaderRules(headers)
	json, err := t.templates.Rules(s.json())
	if err != nil {
		return err
	}
	if err := edit.PathRules(json, s.dotsInKeys); err != nil {
		return err
	}
	for op := edit.Remove; op <= edit.Append; op++ {
		g := t.group(s.when[op])
		g.headers = append(g.headers, only(headers, op)...)
		g.json = append(g.json, only(json, op)...)
		if op == edit.Replace && s.body != "" {
			r, err := t.templates.Rule(edit.Set, "", string(s.body))
			if err != nil {
				return err
			}
			g.body = &r
		}
		t.buffers = t.buffers || len(g.json) > 0 || g.body != nil
	}
	return nil
}

// group returns the last group if it is for the same statuses, else a new one.
func (t *transformer) group(when []Statuses) *group {
	if n := len(t.groups); n == 0 || !slices.Equal(t.groups[n-1].when, when) {
		t.groups = append(t.groups, group{when: when})
	}
	return &t.groups[len(t.groups)-1]
}

func only(rules []edit.Rule, op edit.Op) []edit.Rule {
	var kept []edit.Rule
	for i := range rules {
		if rules[i].Op == op {
			kept = append(kept, rules[i])
		}
	}
	return kept
}

// response is hot.
func (t *transformer) response(x *pipeline.Exchange) {
	v := t.templates.Acquire(x)
	defer v.Release()
	resp := &x.Ctx.Response
	status := resp.StatusCode()
	for i := range t.groups {
		if g := &t.groups[i]; g.applies(status) {
			edit.Headers(&resp.Header, g.headers, v)
		}
	}
	if t.buffers && hasBody(x, status) {
		t.transformBody(resp, v)
	}
}

func (g *group) applies(status int) bool {
	for _, s := range g.when {
		if s.First <= status && status <= s.Last {
			return true
		}
	}
	return len(g.when) == 0
}

// hasBody reports whether the answer may have a body that is at hand.
func hasBody(x *pipeline.Exchange, status int) bool {
	return status >= 200 && status != fasthttp.StatusNoContent && status != fasthttp.StatusNotModified &&
		!x.Ctx.Response.SkipBody && !x.Ctx.Response.IsBodyStream() && !x.Ctx.Request.Header.IsHead()
}

func (t *transformer) transformBody(resp *fasthttp.Response, v *edit.Values) {
	status := resp.StatusCode()
	body, changed := resp.Body(), false
	editable := isJSON(resp)
	if editable && len(t.allow) > 0 && len(body) > 0 {
		if out, ok := edit.Keep(body, t.allow, v); ok {
			body, changed = out, true
		}
	}
	for i := range t.groups {
		g := &t.groups[i]
		if !g.applies(status) {
			continue
		}
		if g.body != nil {
			body, changed = v.Of(g.body), true
			resp.Header.Del(fasthttp.HeaderContentEncoding)
		}
		if editable && len(body) > 0 && len(g.json) > 0 {
			if out, ok := edit.JSON(body, g.json, v); ok {
				body, changed = out, true
			}
		}
	}
	if changed {
		resp.SetBody(body)
		resp.Header.SetContentLength(len(body))
	}
}

func isJSON(resp *fasthttp.Response) bool {
	media, _, _ := bytes.Cut(resp.Header.ContentType(), []byte{';'})
	return len(resp.Header.ContentEncoding()) == 0 && bytes.EqualFold(bytes.TrimSpace(media), []byte("application/json"))
}
