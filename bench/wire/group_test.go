package main

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestGroups(t *testing.T) {
	names := rowNames()
	if slices.Contains(names, direct) || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("a name is used twice: %q", names)
	}
	for _, name := range names {
		r := mustRow(name)
		if r.name != name || r.about == "" || r.prepare == nil {
			t.Errorf("%s: got %+v", name, r)
		}
		if lines := r.group.lines(); len(lines) == 0 || len(lines)%7919 == 0 {
			t.Errorf("%s: %d requests", name, len(lines))
		}
	}
	if got := cached.among([]string{"full", "cached", "relay", "varnish"}); !slices.Equal(got, []string{"cached", "varnish"}) {
		t.Errorf("cached among: got %q", got)
	}
	if _, ok := rowNamed("traefik"); ok || proxied.floor() != "relay" || cached.floor() != "responder" || plugins.floor() != "plugins/relay" {
		t.Error("wrong groups")
	}
	if r := mustRow("conns-512/full"); r.group != manyConnections || r.subject != fullSubject {
		t.Errorf("got %+v", r)
	}
	if help := subjectsHelp(); !strings.Contains(help, "full full-redis; cached: responder nginx-return") || !strings.Contains(help, "plugins/20") {
		t.Errorf("help: %q", help)
	}
}

// What a table says about its connections, bodies and rounds is what its rows are run with.
func TestGroupSettings(t *testing.T) {
	o := &options{rounds: 5, seconds: 3, connections: 64}
	f := func(g *group, rounds, seconds, connections, body int) {
		t.Helper()
		if o.roundsOf(g) != rounds || o.secondsOf(g) != seconds || o.connectionsOf(g) != connections || g.body() != body {
			t.Errorf("%s: got %d rounds, %d s, %d connections, %d bytes", g.name, o.roundsOf(g), o.secondsOf(g), o.connectionsOf(g), g.body())
		}
	}
	f(proxied, 5, 3, 64, 1024)
	f(manyConnections, 3, 2, 512, 1024)
	f(bodies[1], 3, 2, 64, 100<<10)
}

// openTestLab opens a lab for the named subjects, builds what they need and starts the
// service.
func openTestLab(t *testing.T, names ...string) *lab {
	t.Helper()
	o, err := parseOptions([]string{"-subjects", strings.Join(names, ","), "-seconds", "1"}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	l, err := openLab(o)
	if err != nil {
		t.Fatal(err) // names the packages
	}
	t.Cleanup(func() {
		l.client.CloseIdleConnections()
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(l.build(t.Context()), l.startService(t.Context())); err != nil {
		t.Fatal(err)
	}
	return l
}

// mustStart starts a subject, which runs until the test ends.
func mustStart(t *testing.T, l *lab, name string) *running {
	t.Helper()
	r, err := startSubject(t.Context(), l, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.process.alive(), r.process.stop()); err != nil {
			t.Error(err)
		}
		// A child that left the group of its parent would outlive it.
		if _, err := processTree(r.process.pid); !errors.Is(err, errExited) {
			t.Errorf("%s: still there: %v", name, err)
		}
	})
	return r
}

// Every program that answers from memory starts, passes its checks, and then leaves the
// service alone. What sluice does is tested where its plugin is.
func TestCachedSubjects(t *testing.T) {
	names := []string{"responder", "nginx-return", "nginx-cache", "varnish", "fasthttp"}
	l := openTestLab(t, names...)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			r := mustStart(t, l, name)
			if err := verify(t.Context(), l, r); err != nil {
				t.Fatal(r.process.explain(err))
			}
			before, err := l.served(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := verifySample(t.Context(), l, r.group, r.url); err != nil {
				t.Error(err)
			}
			after, err := l.served(t.Context())
			if err != nil || after != before+1 {
				t.Errorf("the service was asked %d times, error %v", after-before-1, err)
			}
		})
	}
}

// A program that does not store what it says it does has no figure.
func TestUncachedIsRefused(t *testing.T) {
	l := openTestLab(t, "nginx")
	r := mustStart(t, l, "nginx")
	r.group = cached
	err := verifyHits(t.Context(), l, r, func(h http.Header) bool { return h.Get("X-Cache-Status") == "HIT" })
	if err == nil || !strings.Contains(err.Error(), "not a hit") {
		t.Errorf("got error %v", err)
	}
	_, err = measureUnasked(t.Context(), l, r)
	if err == nil || !strings.Contains(err.Error(), "answers that should be hits") {
		t.Errorf("got error %v", err)
	}
}
