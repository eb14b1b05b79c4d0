package requesttermination

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// echo answers with a dump of the request, in the shape Kong gives it.
type echo struct {
	status  int
	message string
	gateway echoedGateway
}

type echoed struct {
	Message string          `json:"message,omitempty"`
	Kong    echoedGateway   `json:"kong"`
	Request echoedRequest   `json:"request"`
	Route   *config.Route   `json:"matched_route,omitempty"`
	Service *config.Service `json:"matched_service,omitempty"`
}

type echoedGateway struct {
	NodeID    string `json:"node_id"`
	WorkerPID int    `json:"worker_pid"`
	Hostname  string `json:"hostname"`
}

type echoedRequest struct {
	Scheme      string         `json:"scheme"`
	Host        string         `json:"host"`
	Port        int            `json:"port"`
	Headers     map[string]any `json:"headers"`
	Query       map[string]any `json:"query"`
	Body        any            `json:"body,omitempty"`
	RawBody     string         `json:"raw_body,omitempty"`
	Method      string         `json:"method"`
	Path        string         `json:"path"`
	URICaptures echoedCaptures `json:"uri_captures"`
}

type echoedCaptures struct {
	Unnamed []string          `json:"unnamed"` // the whole match, then the groups
	Named   map[string]string `json:"named"`
}

func newEcho(status int, message string, env *pipeline.Env) *echo {
	host, err := os.Hostname()
	if err != nil {
		env.Log.Warn("request-termination: echo without hostname", "error", err)
	}
	return &echo{status, message, echoedGateway{env.Node.ID, os.Getpid(), host}}
}

// render allocates: the answer is different for each request.
func (e *echo) render(x *pipeline.Exchange) *pipeline.Reply {
	raw := x.Ctx.Request.Body()
	d := echoed{
		Message: e.message,
		Kong:    e.gateway,
		Request: echoedRequest{
			Scheme:      "http",
			Host:        hostOnly(string(x.Ctx.Request.Header.Host())),
			Port:        int(x.Port),
			Headers:     headersOf(x),
			Query:       argumentsOf(x.Query),
			Body:        bodyOf(x, raw),
			RawBody:     string(raw),
			Method:      string(x.Method()),
			Path:        string(x.Path),
			URICaptures: capturesOf(x),
		},
		Route:   x.Route,
		Service: x.Service,
	}
	if x.Secure {
		d.Request.Scheme = "https"
	}
	body, err := json.Marshal(d)
	if err != nil {
		panic("BUG: request-termination: echo of plain data: " + err.Error())
	}
	return pipeline.NewRawReply(e.status, "application/json; charset=utf-8", body)
}

// hostOnly cuts the port off a host. The brackets of an IPv6 address stay.
func hostOnly(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		return host[:i]
	}
	return host
}

// headersOf returns the headers by lower-case name: text, or a list if repeated.
func headersOf(x *pipeline.Exchange) map[string]any {
	headers := map[string]any{}
	for name, value := range x.Ctx.Request.Header.All() {
		collect(headers, strings.ToLower(string(name)), string(value))
	}
	return headers
}

// argumentsOf returns query or form arguments by name: text, true for one without
// a value, or a list if repeated.
func argumentsOf(args []byte) map[string]any {
	values := map[string]any{}
	for more := len(args) > 0; more; {
		var arg []byte
		arg, args, more = pipeline.CutArgument(args)
		name, value, valued := bytes.Cut(arg, []byte{'='})
		if len(name) == 0 {
			continue
		}
		if decoded := string(pipeline.AppendDecoded(nil, name)); valued {
			collect(values, decoded, string(pipeline.AppendDecoded(nil, value)))
		} else {
			collect(values, decoded, true)
		}
	}
	return values
}

func collect(into map[string]any, name string, value any) {
	switch old := into[name].(type) {
	case nil:
		into[name] = value
	case []any:
		into[name] = append(old, value)
	default:
		into[name] = []any{old, value}
	}
}

// bodyOf returns a JSON or form body as data, nil for any other.
func bodyOf(x *pipeline.Exchange, raw []byte) any {
	media, _, _ := strings.Cut(string(x.Ctx.Request.Header.ContentType()), ";")
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "application/json":
		var v any
		if json.Unmarshal(raw, &v) != nil {
			return nil
		}
		return v
	case "application/x-www-form-urlencoded":
		return argumentsOf(raw)
	}
	return nil
}

func capturesOf(x *pipeline.Exchange) echoedCaptures {
	c := echoedCaptures{Unnamed: []string{}, Named: map[string]string{}}
	if x.Pattern == nil {
		return c
	}
	for i, name := range x.Pattern.SubexpNames() {
		value := string(x.Capture(strconv.Itoa(i)))
		c.Unnamed = append(c.Unnamed, value)
		if name != "" {
			c.Named[name] = value
		}
	}
	return c
}
