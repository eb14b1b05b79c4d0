package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/examples"
)

// tryMax bounds the requests printed for a document of the operator's.
const tryMax = 6

// tryThese are requests that show what the document of files does, the example
// if there are none.
func tryThese(g *gateway, files []string) string {
	proxy, status := "http://"+addresses(g.proxy), "http://"+addresses(g.status.addrs())
	if len(files) > 0 && !isQuickstart(files) {
		return tryRoutes(g.control.Document(), proxy) + "  curl -s " + status + "/status\n"
	}
	document := "sluice demo --document"
	if len(files) > 0 {
		document = files[0]
	}
	return strings.NewReplacer("PROXY", proxy, "STATUS", status, "DOCUMENT", document).Replace(`Try these, and ^C to stop:

  curl -i PROXY/users/7                            open to everyone
  curl -i PROXY/orders                             401: no API key
  curl -i -H 'apikey: alice-key' PROXY/orders/1    200, and what is left of five a minute
  curl -i -H 'apikey: alice-key' -H 'X-Version: beta' PROXY/orders
  curl -s STATUS/metrics | grep kong_http

The document: DOCUMENT
`)
}

// isQuickstart reports whether files hold the example, wherever it was copied.
func isQuickstart(files []string) bool {
	if len(files) != 1 {
		return false
	}
	data, err := os.ReadFile(files[0])
	return err == nil && bytes.Equal(data, examples.Quickstart)
}

// tryRoutes is one request for each of the first routes of d that a fixed path,
// a host, methods and fixed headers lead to.
func tryRoutes(d *config.Document, proxy string) string {
	var b strings.Builder
	b.WriteString("Try these, and ^C to stop:\n\n")
	n := 0
	for _, r := range d.Routes {
		request, ok := requestOf(r, proxy)
		if !ok {
			continue
		}
		if n++; n > tryMax {
			break
		}
		fmt.Fprintf(&b, "  %s\n", request)
	}
	return b.String()
}

// requestOf is the curl command that r takes. ok is false where no request can be
// told from r alone: regular expressions, SNIs, protocols other than HTTP.
func requestOf(r *config.Route, proxy string) (request string, ok bool) {
	fixed := func(s string) bool { return !strings.HasPrefix(s, "~") }
	if r.Expression != "" || len(r.SNIs) > 0 || !slices.Contains(r.Protocols, "http") {
		return "", false
	}
	method := "GET"
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, method) {
		method = r.Methods[0]
	}
	request, path := "curl -i", "/"
	if len(r.Paths) > 0 {
		i := slices.IndexFunc(r.Paths, fixed)
		if i < 0 {
			return "", false
		}
		path = r.Paths[i]
	}
	switch method {
	case "GET":
	case "HEAD":
		request += " --head" // -X would wait for a body
	default:
		request += " -X " + method
	}
	if len(r.Hosts) > 0 {
		request += " -H " + shellQuoted("Host: "+strings.ReplaceAll(r.Hosts[0], "*", "example"))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		i := slices.IndexFunc(r.Headers[name], fixed)
		if i < 0 {
			return "", false
		}
		request += " -H " + shellQuoted(name+": "+r.Headers[name][i])
	}
	return request + " " + shellQuoted(proxy+path), true
}

// shellQuoted is s as one word of a POSIX shell.
func shellQuoted(s string) string {
	if !strings.ContainsAny(s, " '\"$&;|<>()*?[]#~=%!`\\{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
