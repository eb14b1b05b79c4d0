package main

import (
	"fmt"
	"strconv"
	"strings"
)

// routeSubjects are sluice with more and more routes.
var routeSubjects = []*subject{routeSubject(1), routeSubject(100), routeSubject(10_000), routeSubject(100_000)}

// consumerSubjects are sluice with more and more consumers.
var consumerSubjects = []*subject{consumerSubject(consumerCount), consumerSubject(100_000)}

func routeSubject(n int) *subject {
	return &subject{
		name: strconv.Itoa(n), about: fmt.Sprintf("sluice, %d routes, no plugin, GOMAXPROCS=1", n),
		binary: sluiceBinary, status: true,
		prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
			return prepareSluice(l, dir, routesDocument(&p, n))
		},
	}
}

// routesDocument is one service with n routes: every path of the requests lies under one
// of them, whatever n is. Beyond 10,000 the others only lie beside.
func routesDocument(p *documentPorts, n int) []byte {
	var b strings.Builder
	writeGateway(&b, *p)
	fmt.Fprintf(&b, "services:\n- name: orders\n  url: http://127.0.0.1:%d\n  routes:\n", p.services[0])
	for i := range n {
		path := "/"
		switch {
		case n >= routeCount:
			path = routePath(i % routeCount)
			if i >= routeCount {
				path += "-" + strconv.Itoa(i/routeCount)
			}
		case n > 1:
			path = fmt.Sprintf("/team-%02d", i)
		}
		fmt.Fprintf(&b, "  - {name: r%d, paths: [%q], strip_path: false}\n", i, path)
	}
	return []byte(b.String())
}

func consumerSubject(n int) *subject {
	return &subject{
		name: strconv.Itoa(n), about: fmt.Sprintf("sluice, one route, key-auth, %d consumers with a key each, GOMAXPROCS=1", n),
		binary: sluiceBinary, status: true,
		prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
			return prepareSluice(l, dir, consumersDocument(&p, n))
		},
	}
}

// consumersDocument is one route that asks for a key, and n consumers.
func consumersDocument(p *documentPorts, n int) []byte {
	var b strings.Builder
	writeGateway(&b, *p)
	b.WriteString("plugins:\n- {name: key-auth, config: {key_names: [apikey]}}\nconsumers:\n")
	for i := range n {
		fmt.Fprintf(&b, "- {username: %s, keyauth_credentials: [{key: %q}]}\n", consumerName(i), consumerKey(i))
	}
	writePlainService(&b, *p)
	return []byte(b.String())
}

// largeBodies are the sizes of the bodies that the service has in files, by the folder
// that is asked for.
var largeBodies = map[string]int{"body-10k": 10 << 10, "body-100k": 100 << 10}

// bodyLines are the requests for the large body of a table.
func bodyLines(table string) []requestLine { return []requestLine{{path: "/" + table + "/1"}} }
