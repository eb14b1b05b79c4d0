package main

import (
	"fmt"
	"slices"
	"strings"
)

// group is subjects that are sent the same requests in the same way, compared with the
// same floor and shown in one table.
type group struct {
	name  string
	about string // the table's heading

	// fromMemory says that the subjects answer without asking the service; every
	// measurement checks that they did not.
	fromMemory bool
	// brief says that the table shows how a cost grows, not what it is: half the
	// rounds, half the time.
	brief bool
	// fresh has every request come on a connection of its own.
	fresh bool

	connections int // of the generator; 0: as -connections says
	bodyBytes   int // of every answer; 0: usualBodyBytes

	lines    func() []requestLine
	load     string     // what a reader must know of them
	subjects []*subject // in the table's order; the first is the floor
}

// groups are all tables. A new row is a file that declares a subject, and its name here.
var groups = slices.Concat([]*group{proxied, cached, plugins}, bodies, []*group{oneConnection, manyConnections, newConnections, routes, consumers, builds})

var proxied = &group{
	name: "proxied", about: "every request goes on to the service",
	lines: requestLines, load: spreadLoad,
	subjects: []*subject{
		relaySubject, nginxSubject, nginxLuaSubject, haproxySubject, caddySubject,
		plainSubject, fullSubject, fullRedisSubject,
	},
}

var spreadLoad = fmt.Sprintf("%d, over %d routes and %d keys", routeCount, routeCount, consumerCount)

var cached = &group{
	name: "cached", about: "every answer is a hit, the service is not asked",
	lines: cachedLines, load: fmt.Sprintf("%d, without a key, each asked for twice before anything is timed where it is stored", cachedCount),
	fromMemory: true,
	subjects: []*subject{
		responderSubject, nginxReturnSubject, nginxCacheSubject, varnishSubject,
		fasthttpSubject, cachedSubject,
	},
}

var plugins = &group{
	name: "plugins", about: "how the cost grows with plugins on one route; each row has those of the one before", brief: true,
	lines: chainLines, load: "one route, one key",
	subjects: append([]*subject{relaySubject}, chainSubjects...),
}

// bodies are tables that differ in the size of the answer.
var bodies = []*group{bodyGroup("body-10k"), bodyGroup("body-100k")}

func bodyGroup(name string) *group {
	size := largeBodies[name]
	return &group{
		name: name, about: fmt.Sprintf("answers of %d KiB", size>>10), brief: true, bodyBytes: size,
		lines: func() []requestLine { return bodyLines(name) }, load: "one path",
		subjects: []*subject{relaySubject, nginxSubject, plainSubject},
	}
}

var oneConnection = &group{
	name: "conns-1", about: "one connection: nothing is batched", brief: true, connections: 1,
	lines: requestLines, load: spreadLoad,
	subjects: []*subject{relaySubject, nginxSubject, plainSubject, fullSubject},
}

var manyConnections = &group{
	name: "conns-512", about: "512 connections", brief: true, connections: 512,
	lines: requestLines, load: spreadLoad,
	subjects: []*subject{relaySubject, nginxSubject, plainSubject, fullSubject},
}

var newConnections = &group{
	name: "new-conns", about: "a new connection for every request", brief: true, fresh: true,
	lines: requestLines, load: spreadLoad + "; the relay opens a connection to the service as well, the others keep theirs",
	subjects: []*subject{relaySubject, nginxSubject, haproxySubject, plainSubject, fullSubject},
}

var routes = &group{
	name: "routes", about: "how the cost grows with routes, no plugin, requests over all of them (at most 10,000)", brief: true,
	lines: requestLines, load: "10,000 paths, of which a document with fewer routes has a prefix",
	subjects: append([]*subject{relaySubject}, routeSubjects...),
}

var consumers = &group{
	name: "consumers", about: "how the cost grows with consumers, key-auth, requests over 1,000 keys", brief: true,
	lines: requestLines, load: spreadLoad,
	subjects: append([]*subject{relaySubject}, consumerSubjects...),
}

// row is one line of one table.
type row struct {
	name string // the subject's in the first two tables, else TABLE/SUBJECT
	*subject
	group *group
}

// rows returns the rows of the group's table.
func (g *group) rows() []row {
	rows := make([]row, len(g.subjects))
	for i, s := range g.subjects {
		rows[i] = row{g.rowName(s), s, g}
	}
	return rows
}

func (g *group) rowName(s *subject) string {
	if g.brief {
		return g.name + "/" + s.name
	}
	return s.name
}

// floor is the row that the others of the group are compared with.
func (g *group) floor() string { return g.rowName(g.subjects[0]) }

// body is the size of an answer's body.
func (g *group) body() int {
	if g.bodyBytes > 0 {
		return g.bodyBytes
	}
	return usualBodyBytes
}

// among returns which of the named rows are in the group, in the order of names.
func (g *group) among(names []string) []string {
	var found []string
	for _, name := range names {
		if r, ok := rowNamed(name); ok && r.group == g {
			found = append(found, name)
		}
	}
	return found
}

// rowNamed returns the row with that name.
func rowNamed(name string) (row, bool) {
	for _, g := range groups {
		for _, r := range g.rows() {
			if r.name == name {
				return r, true
			}
		}
	}
	return row{}, false
}

// mustRow is rowNamed for a name that parseOptions has checked.
func mustRow(name string) row {
	r, ok := rowNamed(name)
	if !ok {
		panic("BUG: no row " + name)
	}
	return r
}

func rowNames() []string {
	var names []string
	for _, g := range groups {
		for _, r := range g.rows() {
			names = append(names, r.name)
		}
	}
	return names
}

// rowsOfTables returns the rows of the named tables, of all if there are no names. An
// error names a table that does not exist.
func rowsOfTables(tables []string) ([]string, error) {
	for i, name := range tables {
		if !slices.ContainsFunc(groups, func(g *group) bool { return g.name == name }) || slices.Contains(tables[:i], name) {
			return nil, fmt.Errorf("%w: -tables: unknown or repeated %q (known: %s)", errUsage, name, strings.Join(tableNames(), ", "))
		}
	}
	var names []string
	for _, g := range groups {
		if len(tables) > 0 && !slices.Contains(tables, g.name) {
			continue
		}
		for _, r := range g.rows() {
			names = append(names, r.name)
		}
	}
	return names, nil
}

func tableNames() []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return names
}

// roundsOf and secondsOf are the rounds of a group, and the seconds of one measurement.
func (o *options) roundsOf(g *group) int {
	if g.brief {
		return (o.rounds + 1) / 2
	}
	return o.rounds
}

func (o *options) secondsOf(g *group) int {
	if g.brief {
		return (o.seconds + 1) / 2
	}
	return o.seconds
}

// connectionsOf is how many connections the generator has.
func (o *options) connectionsOf(g *group) int {
	if g.connections > 0 {
		return g.connections
	}
	return o.connections
}
