// Package requesttermination is the request-termination plugin: it answers
// requests itself, with a status and text of the operator's choice.
//
//	plugins:
//	- name: request-termination
//	  route: legacy
//	  config:
//	    status_code: 410
//	    message: This API was shut down
//
// Nothing is proxied, so the route needs no service. Plugins with a higher
// priority have run before: keys are asked for and limits counted as usual.
//
// The body is {"message":"..."} with message, or body as it is with content_type
// (application/json; charset=utf-8 if unset). With neither, status codes 401, 404,
// 405, 500, 502 and 503 have a default message and all others an empty body.
// These answers are rendered at load.
//
// echo answers with a JSON dump of the request, for debugging. It is rendered
// when the request comes, so unlike everything else here it allocates, and its
// routes read request bodies in full.
//
// With trigger only requests are answered that have a header or query argument of
// that name, whatever its value.
//
// A disabled instance answers in place of a service whose circuit is open, or whose
// targets are all taken out, at the routes it is scoped to; one with echo does not.
package requesttermination

import (
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("request-termination", defaults, build).AsStandIn()

// messages are Kong's defaults; a status that is not listed has no body.
var messages = map[int]string{
	401: "Unauthorized",
	404: "Not found",
	405: "Method not allowed",
	500: "An unexpected error occurred",
	502: "Bad Gateway",
	503: "Service unavailable",
}

// termination is one configured instance.
type termination struct {
	trigger string
	header  string // trigger in canonical form
	reply   *pipeline.Reply
	echo    *echo // nil: answer with reply
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	message := c.Message
	if message == "" {
		message = messages[c.StatusCode]
	}
	t := &termination{trigger: c.Trigger, header: string(fasthttp.AppendNormalizedHeaderKey(nil, c.Trigger))}
	switch {
	case c.Echo:
		t.echo = newEcho(c.StatusCode, message, env)
	case c.Body != "":
		contentType := c.ContentType
		if contentType == "" {
			contentType = "application/json; charset=utf-8"
		}
		t.reply = pipeline.NewRawReply(c.StatusCode, contentType, []byte(c.Body))
	default:
		t.reply = pipeline.NewJSONReply(c.StatusCode, message)
	}
	return pipeline.Hooks{Request: t.request, BuffersRequest: c.Echo}, nil
}

// request is hot: it hands over a reply rendered at load, except with echo.
func (t *termination) request(x *pipeline.Exchange) pipeline.Verdict {
	if t.trigger != "" && !t.triggered(x) {
		return pipeline.Next
	}
	if t.echo != nil {
		return x.Answer(t.echo.render(x))
	}
	return x.Answer(t.reply)
}

func (t *termination) triggered(x *pipeline.Exchange) bool {
	return len(x.Ctx.Request.Header.PeekAll(t.header)) > 0 || pipeline.HasArgument(x.Query, t.trigger)
}
