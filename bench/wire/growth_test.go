//go:build !race

// What these start are processes of their own, in which the race detector sees nothing.

package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Every row that is not of the first two tables starts, gives right answers and passes
// its checks.
func TestGrowthSubjects(t *testing.T) {
	names := []string{"nginx-lua", "caddy", "body-10k/relay", "body-100k/nginx", "plugins/0", "plugins/1", "plugins/20", "routes/100", "consumers/1000", "new-conns/haproxy", "builds/full-nopgo"}
	l := openTestLab(t, names...)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			r := mustStart(t, l, name)
			if err := verify(t.Context(), l, r); err != nil {
				t.Fatal(r.process.explain(err))
			}
			if n, err := readResident(r.process.pid); err != nil || n < 1<<17 || n > 1<<30 {
				t.Errorf("resident: %d bytes, error %v", n, err)
			}
		})
	}
}

// With a new connection for every request the subject sees as many connections as
// requests, and idle ones are weighed with a good answer each.
func TestConnections(t *testing.T) {
	l := openTestLab(t, "new-conns/full")
	r := mustStart(t, l, "new-conns/full")
	before := acceptedConnections(t, l, r)
	w, err := loadAndCheck(t.Context(), l, r.group, r.url, 1)
	if err != nil {
		t.Fatal(r.process.explain(err))
	}
	if got := acceptedConnections(t, l, r) - before; got < w.requests {
		t.Errorf("%d requests came on %d connections", w.requests, got)
	}
	l.o.idle = 10
	conns, err := openIdle(t.Context(), l, r)
	for _, c := range conns {
		_ = c.Close()
	}
	if err != nil || len(conns) != 10 {
		t.Errorf("%d idle connections, error %v", len(conns), err)
	}
}

var acceptedCount = regexp.MustCompile(`(?m)^kong_nginx_connections_total\{[^}]*state="accepted"[^}]*\} (\d+)$`)

func acceptedConnections(t *testing.T, l *lab, r *running) int64 {
	t.Helper()
	a, err := l.get(t.Context(), r.statusURL+"/metrics", "")
	if err != nil {
		t.Fatal(err)
	}
	match := acceptedCount.FindSubmatch(a.body)
	if match == nil {
		t.Fatalf("no count of accepted connections in:\n%s", a.body)
	}
	n, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A profile is taken from a sluice under load, and the sum is one that pprof reads.
func TestProfile(t *testing.T) {
	l := openTestLab(t, "plain")
	l.o.profile = filepath.Join(t.TempDir(), "sum.pgo")
	if err := l.mergeProfiles(t.Context()); err == nil || !strings.Contains(err.Error(), "no row of this run is sluice") {
		t.Errorf("got error %v", err)
	}
	r := mustStart(t, l, "plain")
	if _, err := l.loadProfiled(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := l.mergeProfiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	top, err := output(exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", l.o.profile))
	if err != nil || !strings.Contains(top, "sluice") {
		t.Errorf("error %v, profile:\n%s", err, top)
	}
	raw, err := output(exec.CommandContext(t.Context(), "go", "tool", "pprof", "-raw", l.o.profile))
	if err != nil || strings.Contains(raw, l.dir) || !strings.Contains(raw, "M") {
		t.Errorf("error %v, the profile names folders of the run: %s", err, raw)
	}
	for _, bad := range []string{"", "no profile"} {
		if _, err := renameMapping([]byte(bad), l.dir); err == nil {
			t.Errorf("%q is a profile", bad)
		}
	}
}
