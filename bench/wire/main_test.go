package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	o, err := parseOptions([]string{"-subjects", "nginx,full", "-rounds", "7"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 7 || o.seconds != 2 || o.connections != 64 || !slices.Equal(o.subjects, []string{"nginx", "full"}) {
		t.Errorf("got %+v", o)
	}
	if slices.Contains(o.loadCPUs, o.subjectCPU) || len(o.loadCPUs) != 1 {
		t.Errorf("CPUs: subject %d, load %v", o.subjectCPU, o.loadCPUs)
	}
	if o, err := parseOptions([]string{"-tables", "conns-1,body-10k"}, io.Discard); err != nil || len(o.subjects) != 7 || o.subjects[0] != "body-10k/relay" {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := parseOptions(nil, io.Discard); err != nil || len(o.subjects) < 40 {
		t.Errorf("got %+v, %v", o, err)
	}
	f := func(args ...string) {
		t.Helper()
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("accepted %q", args)
		}
	}
	f("-rounds", "0")
	f("-seconds", "-1")
	f("-connections", "5000")
	f("-balancer", "random")
	f("-subjects", "nginx,traefik")
	f("-subjects", "nginx,nginx")
	f("-subjects", "")
	f("-tables", "proxied,nothing")
	f("-tables", "proxied", "-subjects", "nginx")
	f("-idle", "-1")
	f("-cpu", "100000")
	f("-load-cpus", "x")
	f("-cpu", "0", "-load-cpus", "0")
	f("extra")
}

func TestFindTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	f := func(missing tool, want string) {
		t.Helper()
		if _, err := findTool(missing); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", missing.name, err, want)
		}
	}
	f(ccTool, "apt-get install gcc libc6-dev")
	f(tool{name: "nobodysd", apt: "nobody-server"}, "nobodysd is not installed: apt-get install nobody-server")
}

func TestChildEnv(t *testing.T) {
	got := childEnv([]string{"A=1", "SLUICE_PROXY_LISTEN=x", "B=SLUICE_"})
	if want := []string{"A=1", "B=SLUICE_"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A child that ignores SIGTERM, with a child of its own, is gone after stop.
func TestStopEndsTheGroup(t *testing.T) {
	p, err := start(t.TempDir(), &program{
		name: "stubborn", cpus: allowedCPUs(t),
		args: []string{"/bin/sh", "-c", "trap '' TERM; sleep 600 & echo started; wait; wait; wait; sleep 600"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(testLimit); ; {
		tree, err := processTree(p.pid)
		if err != nil {
			t.Fatal(errors.Join(err, p.stop()))
		}
		if len(tree) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(errors.Join(errors.New("no grandchild"), p.stop()))
		}
	}
	if err := p.alive(); err != nil {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if err := p.alive(); err == nil || !strings.Contains(err.Error(), "started") {
		t.Errorf("want an error with the child's output, got %v", err)
	}
	for deadline := time.Now().Add(testLimit); ; {
		err := syscall.Kill(-p.pid, 0)
		if errors.Is(err, syscall.ESRCH) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the group is still there: %v", err)
		}
	}
}

func TestWait(t *testing.T) {
	f := func(script, want string, limit time.Duration) {
		t.Helper()
		p, err := start(t.TempDir(), &program{name: "child", cpus: allowedCPUs(t), args: []string{"/bin/sh", "-c", script}})
		if err != nil {
			t.Fatal(err)
		}
		err = p.wait(t.Context(), limit)
		if stopErr := p.stop(); stopErr != nil {
			t.Error(stopErr)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got error %v, want %q", script, err, want)
		}
	}
	f("exit 0", "", testLimit)
	f("echo why; exit 3", "why", testLimit)
	f("exec sleep 600", "still running after", 50*time.Millisecond)
}
