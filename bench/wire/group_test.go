package main

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestGroups(t *testing.T) {
	names := subjectNames()
	if slices.Contains(names, direct) || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("a name is used twice: %q", names)
	}
	for _, name := range names {
		s := subjectNamed(name)
		if s.name != name || s.about == "" || s.prepare == nil {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	if got := cached.among([]string{"full", "cached", "relay", "varnish"}); !slices.Equal(got, []string{"cached", "varnish"}) {
		t.Errorf("cached among: got %q", got)
	}
	if groupOf("traefik") != nil || proxied.floor() != "relay" || cached.floor() != "responder" {
		t.Error("wrong groups")
	}
	if usual := usualSubjects(); slices.Contains(usual, "full-redis") || !slices.Contains(usual, "cached") {
		t.Errorf("usual subjects: %q", usual)
	}
	if help := subjectsHelp(); !strings.Contains(help, "full-redis (must be asked for); cached: responder nginx-return") {
		t.Errorf("help: %q", help)
	}
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
