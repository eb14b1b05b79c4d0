package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// fact is one line about the machine or the settings.
type fact struct{ name, value string }

// collectFacts gathers what must be stated with every figure. What cannot be found
// is said to be unknown and why.
func collectFacts(ctx context.Context, l *lab) []fact {
	o := l.o
	facts := []fact{
		{"date", time.Now().UTC().Format(time.RFC3339)},
		{"command", o.commandLine},
		{"commit", machine.Commit(ctx, ".")},
		{"CPU", fmt.Sprintf("%s, %d allowed", machine.CPUModel(), runtime.NumCPU())},
		{"pinning", fmt.Sprintf("subject on CPU %d (hyper-thread siblings: %s), generator and service on %v", o.subjectCPU, siblings(o.subjectCPU), o.loadCPUs)},
		{"kernel", machine.Kernel()},
		{"load", "at the start: " + readOr("/proc/loadavg")},
		{"Go", runtime.Version()},
	}
	for _, t := range o.tools() {
		if t.version != "" {
			facts = append(facts, fact{t.name, firstLine(ctx, l.found[t], t.version)})
		}
	}
	if l.built["sluice"] != "" {
		facts = append(facts, fact{"sluice", sluiceBuild(l)},
			fact{"runtime", fmt.Sprintf("GOMAXPROCS=1 GOGC=%s GOMEMLIMIT=%s GODEBUG=%s", env("GOGC"), env("GOMEMLIMIT"), env("GODEBUG"))},
			fact{"balancer", o.balancer + " (full)"})
	}
	facts = append(facts,
		fact{"load by", fmt.Sprintf("wrk, 1 thread, %d keep-alive connections where a table says nothing else, the same requests for every subject of a table", o.connections)})
	for _, g := range groups {
		if len(g.among(o.subjects)) > 0 {
			facts = append(facts, fact{"requests", g.name + ": " + g.load})
		}
	}
	facts = append(facts,
		fact{"answer", fmt.Sprintf("%d bytes from nginx, 1 worker, from memory, where a table says nothing else", usualBodyBytes)},
		fact{"rounds", fmt.Sprintf("%d interleaved (every second backwards), %d s each after %d s of warm-up, a fresh process each; tables of how a cost grows: %d of %d s", o.rounds, o.seconds, o.warmUpSeconds, o.roundsOf(plugins), o.secondsOf(plugins))})
	for _, name := range o.subjects {
		facts = append(facts, fact{name, mustRow(name).about})
	}
	return facts
}

func siblings(cpu int) string {
	return readOr(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu))
}

// readOr returns a file's trimmed text, or that it is unknown.
func readOr(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown: " + err.Error()
	}
	return strings.TrimSpace(string(text))
}

func env(name string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return "default"
}

// firstLine returns the first line a command prints about itself, whatever its exit
// status: wrk -v exits with 1.
func firstLine(ctx context.Context, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, requestMax)
	defer cancel()
	text, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "unknown: " + err.Error()
	}
	return line
}

// sluiceBuild tells how the measured binary was built.
func sluiceBuild(l *lab) string {
	origin := "built from cmd/sluice"
	if l.o.sluice != "" {
		origin = l.built["sluice"]
	}
	info, err := buildinfo.ReadFile(l.built["sluice"])
	if err != nil {
		return origin + ", build information unknown: " + err.Error()
	}
	for _, s := range info.Settings {
		if s.Key == "-pgo" {
			s.Value = filepath.Base(s.Value) // where it was built is nobody's business
		}
		if slices.Contains([]string{"vcs.revision", "vcs.modified", "-pgo", "-ldflags", "CGO_ENABLED", "GOAMD64"}, s.Key) {
			origin += fmt.Sprintf(", %s=%s", s.Key, s.Value)
		}
	}
	return origin + ", " + info.GoVersion
}
