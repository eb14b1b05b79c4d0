// Package keyauth is the key-auth plugin: a caller proves who he is with an API key.
//
//	consumers:
//	- username: mobile-app
//	  keyauth_credentials:
//	  - key: sk_live_abc123
//	plugins:
//	- name: key-auth
//	  config:
//	    key_names: [X-API-Key]
//	    hide_credentials: true
//
// # Where the key is looked for
//
// For each of key_names in order: in the header of that name (any case; an
// underscore also matches a hyphen), in the query argument (exact case), and with
// key_in_body in the field of a form, multipart or JSON body. The first place that
// has the name decides. A name that occurs twice there, or a JSON list or object,
// is refused.
//
//	401 No API key found in request    none, or an empty one
//	401 Duplicate API key found        repeated
//	401 Unauthorized                   unknown or expired
//
// Refusals carry WWW-Authenticate: Key, with realm="..." if realm is set.
//
// # What the service sees
//
// X-Consumer-ID, X-Consumer-Custom-ID, X-Consumer-Username and
// X-Credential-Identifier (the id of the key), whatever the client sent under these
// names. hide_credentials takes the name that held the key out of headers, query
// and, with key_in_body, body; all other bytes stay as they came.
//
// # Several authentication plugins
//
// Without anonymous every one of them must accept the caller. With it one is
// enough: a caller with a credential already is let through, one without a valid
// key becomes the consumer named by anonymous, and the service sees
// X-Anonymous-Consumer: true. If there is no such consumer: 500.
//
// run_on_preflight: false lets OPTIONS requests through unasked. A key with a ttl
// expires that many seconds after its created_at, or after the document was loaded
// where none is written.
//
// # How keys are kept
//
// In one table for all instances of a snapshot, found by a hash with a random seed
// and compared in constant time, so neither collisions nor timing tell anything
// about the keys. A million keys need about 97 MB beside the document.
//
// Nothing is allocated per request, except for keys with escapes longer than 256
// bytes and JSON strings with backslashes.
package keyauth

import (
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("key-auth", defaults, build)

// auth is one configured instance.
type auth struct {
	keys      *table
	names     []name
	header    bool
	query     bool
	body      bool
	hide      bool
	preflight bool // OPTIONS requests are asked for a key

	optional  bool // "anonymous" is set
	anonymous *pipeline.Consumer

	missing   *pipeline.Reply
	duplicate *pipeline.Reply
	unknown   *pipeline.Reply
	nobody    *pipeline.Reply // the anonymous consumer does not exist
}

// name is one of key_names.
type name struct {
	text    string
	headers []string // in canonical form
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	challenge := "Key"
	if c.Realm != "" {
		challenge = `Key realm="` + c.Realm + `"`
	}
	refusal := func(message string) *pipeline.Reply {
		return pipeline.NewReply(fasthttp.StatusUnauthorized, message).With("Www-Authenticate", challenge)
	}
	a := &auth{
		keys: pipeline.Shared(env, "key-auth", func() *table {
			return newTable(env.Document.KeyAuthCredentials, env.Consumers, time.Now())
		}),
		header:    c.KeyInHeader,
		query:     c.KeyInQuery,
		body:      c.KeyInBody,
		hide:      c.HideCredentials,
		preflight: c.RunOnPreflight,
		missing:   refusal("No API key found in request"),
		duplicate: refusal("Duplicate API key found"),
		unknown:   refusal("Unauthorized"),
	}
	for _, text := range c.KeyNames {
		n := name{text: text, headers: []string{canonical(text)}}
		if strings.Contains(text, "_") {
			n.headers = append(n.headers, canonical(strings.ReplaceAll(text, "_", "-")))
		}
		a.names = append(a.names, n)
	}
	if c.Anonymous != "" {
		a.optional = true
		if a.anonymous = env.Consumers.Find(c.Anonymous); a.anonymous == nil {
			message := "anonymous consumer " + c.Anonymous + " is configured but doesn't exist"
			env.Log.Warn(message, "plugin", env.Plugin.Name, "id", env.Plugin.ID)
			a.nobody = pipeline.NewReply(fasthttp.StatusInternalServerError, message)
		}
	}
	return pipeline.Hooks{Request: a.request, BuffersRequest: c.KeyInBody}, nil
}

func canonical(header string) string {
	return string(fasthttp.AppendNormalizedHeaderKey(nil, header))
}

// request is hot. Kong: with anonymous set the plugins of a route are joined by
// OR, without by AND.
func (a *auth) request(x *pipeline.Exchange) pipeline.Verdict {
	if !a.preflight && x.Ctx.Request.Header.IsOptions() {
		return pipeline.Next
	}
	if a.optional && x.Credential != nil {
		return pipeline.Next
	}
	credential, refusal := a.authenticate(x)
	switch {
	case refusal == nil:
		x.Authenticate(credential.Consumer, credential)
	case !a.optional:
		return x.Answer(refusal)
	case a.anonymous == nil:
		return x.Answer(a.nobody)
	default:
		x.Authenticate(a.anonymous, nil)
	}
	return pipeline.Next
}

// authenticate finds the key and whom it belongs to, or the answer to its absence.
// It takes the key out of the request if that is configured, valid or not.
func (a *auth) authenticate(x *pipeline.Exchange) (*pipeline.Credential, *pipeline.Reply) {
	var buf [256]byte
	for i := range a.names {
		n := &a.names[i]
		key, found := a.find(x, n, buf[:0])
		if found == several {
			return nil, a.duplicate
		}
		if found == absent {
			continue
		}
		if len(key) == 0 {
			return nil, a.missing
		}
		credential := a.keys.find(key, x)
		if a.hide {
			a.strip(x, n) // after the look-up: key may lie in what is taken out
		}
		if credential == nil {
			return nil, a.unknown
		}
		return credential, nil
	}
	return nil, a.missing
}
