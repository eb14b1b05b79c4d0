package main

import (
	"fmt"
	"slices"
)

// group is subjects that are sent the same requests, compared with the same floor and
// shown in one table.
type group struct {
	name  string
	about string // the table's heading

	// fromMemory says that the subjects answer without asking the service; every
	// measurement checks that they did not.
	fromMemory bool

	lines    func() []requestLine
	load     string     // what a reader must know of them
	subjects []*subject // in the table's order; the first is the floor
}

// groups are all tables. A new row is a file that declares a subject, and its name here.
var groups = []*group{proxied, cached}

var proxied = &group{
	name: "proxied", about: "every request goes on to the service",
	lines: requestLines, load: fmt.Sprintf("%d, over %d routes and %d keys", routeCount, routeCount, consumerCount),
	subjects: []*subject{
		relaySubject, nginxSubject, haproxySubject,
		plainSubject, fullSubject, fullRedisSubject,
	},
}

var cached = &group{
	name: "cached", about: "every answer is a hit, the service is not asked",
	lines: cachedLines, load: fmt.Sprintf("%d, without a key, each asked for twice before anything is timed where it is stored", cachedCount),
	fromMemory: true,
	subjects: []*subject{
		responderSubject, nginxReturnSubject, nginxCacheSubject, varnishSubject,
		fasthttpSubject, cachedSubject,
	},
}

// floor is the subject that the others of the group are compared with.
func (g *group) floor() string { return g.subjects[0].name }

// among returns which of the named subjects are in the group, in the order of names.
func (g *group) among(names []string) []string {
	var found []string
	for _, name := range names {
		if groupOf(name) == g {
			found = append(found, name)
		}
	}
	return found
}

// groupOf returns the group of the subject with that name, nil if there is no such subject.
func groupOf(name string) *group {
	for _, g := range groups {
		if slices.ContainsFunc(g.subjects, func(s *subject) bool { return s.name == name }) {
			return g
		}
	}
	return nil
}

// subjectNamed returns the subject with that name; parseOptions has checked that there is one.
func subjectNamed(name string) *subject {
	of := groupOf(name).subjects
	return of[slices.IndexFunc(of, func(s *subject) bool { return s.name == name })]
}

func subjectNames() []string {
	var names []string
	for _, g := range groups {
		for _, s := range g.subjects {
			names = append(names, s.name)
		}
	}
	return names
}

// usualSubjects are measured where -subjects says nothing.
func usualSubjects() []string {
	return slices.DeleteFunc(subjectNames(), func(name string) bool { return subjectNamed(name).asked })
}
