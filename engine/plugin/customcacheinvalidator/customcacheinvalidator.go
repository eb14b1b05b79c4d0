// Package customcacheinvalidator is the custom-cache-invalidator plugin of the patterns:
// a request that changes something takes back what the caches keep of it.
//
//	plugins:
//	- name: custom-cache-invalidator
//	  config:
//	    invalidate_on: [POST, PUT, PATCH, DELETE]
//	    propagate: true
//
// When the service has answered a request of one of these methods with a status from 200
// to 399, every kept answer at the path of the request goes, of the same service: under
// every method, query, consumer and header it may be kept by. Refused and failed requests
// take back nothing.
//
// With propagate (the default) so do answers at the paths above (/users/7 takes /users
// with it, but not /) and below (/users/7/orders), and, of any service, those that have a
// surrogate key in common with this answer: Surrogate-Key, separated by spaces, or
// Cache-Tag, by commas.
//
// With soft the answers become stale instead: the next request for each asks the service,
// and gets the old answer if that fails and the cache may give it.
//
// Gateways that share a Redis as their cache do the same within a moment (see
// proxy-cache). What a cache is told costs it little: answers are looked at when they are
// wanted.
package customcacheinvalidator

import (
	"bytes"
	"slices"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Config are the settings of custom-cache-invalidator.
type Config struct {
	InvalidateOn []string `json:"invalidate_on" len:"1" doc:"Methods that change something."`
	Propagate    bool     `json:"propagate" doc:"Take back answers at paths above and below too, and those with the same surrogate keys."`
	Soft         bool     `json:"soft" doc:"Make answers stale instead of removing them."`
}

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("custom-cache-invalidator", Config{InvalidateOn: []string{"POST", "PUT", "PATCH", "DELETE"}, Propagate: true}, build)

// invalidator is one configured instance. Immutable.
type invalidator struct {
	Config
	purge func(any []*pipeline.Purge)
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	i := &invalidator{c, env.Purger()}
	return pipeline.Hooks{Receive: i.receive}, nil
}

// receive is hot for requests that change nothing: it compares their method.
func (i *invalidator) receive(x *pipeline.Exchange) {
	if x.Source != pipeline.SourceService || !i.changes(x.Method()) {
		return
	}
	if status := x.Ctx.Response.StatusCode(); status < 200 || status >= 400 {
		return
	}
	what := []*pipeline.Purge{i.at(x, x.Path, !i.Propagate)}
	if i.Propagate {
		for above := parent(x.Path); len(above) > 0; above = parent(above) {
			what = append(what, i.at(x, above, true))
		}
		if keys := surrogateKeys(x); len(keys) > 0 {
			what = append(what, &pipeline.Purge{Keys: keys, Soft: i.Soft})
		}
	}
	i.purge(what)
}

func (i *invalidator) changes(method []byte) bool {
	return slices.Contains(i.InvalidateOn, string(method))
}

// at is what is kept at a path of x's service.
func (i *invalidator) at(x *pipeline.Exchange, path []byte, exact bool) *pipeline.Purge {
	p := &pipeline.Purge{Path: string(path), Exact: exact, Soft: i.Soft}
	if x.Service != nil {
		p.Service = x.Service.ID
	}
	return p
}

// parent returns the path above one, empty for the root and what lies right below it.
func parent(path []byte) []byte {
	path = bytes.TrimSuffix(path, []byte{'/'})
	return path[:max(bytes.LastIndexByte(path, '/'), 0)]
}

// surrogateKeys returns those of x's answer.
func surrogateKeys(x *pipeline.Exchange) (keys []string) {
	for name, value := range x.Ctx.Response.Header.All() {
		separator := ""
		switch string(name) {
		case "Surrogate-Key":
			separator = " "
		case "Cache-Tag":
			separator = ","
		default:
			continue
		}
		for key := range bytes.SplitSeq(value, []byte(separator)) {
			if key = bytes.TrimSpace(key); len(key) > 0 {
				keys = append(keys, string(key))
			}
		}
	}
	return keys
}
