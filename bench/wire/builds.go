package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// builds are full compiled in other ways, to show what each is worth.
var builds = &group{
	name: "builds", about: "full as it is built, without the profile that the compiler is given, and for newer processors", brief: true,
	lines: requestLines, load: spreadLoad,
	subjects: []*subject{
		relaySubject, fullSubject,
		buildSubject("full-nopgo", "full, built with -pgo=off", "-pgo=off"),
		buildSubject("full-v3", "full, built with GOAMD64=v3", "-pgo=auto", "GOAMD64=v3"),
	},
}

// buildSubject is fullSubject built with a flag and a changed environment.
func buildSubject(name, about, flag string, env ...string) *subject {
	s := *fullSubject
	s.name, s.about = name, about
	s.binary = &binary{name: name, make: func(ctx context.Context, l *lab) (string, error) {
		path := filepath.Join(l.dir, name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", flag, "-o", path, "github.com/sluice-gateway/sluice/cmd/sluice")
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
		_, err := output(cmd)
		return path, err
	}}
	s.prepare = func(l *lab, dir string, p documentPorts) (*program, error) {
		prog, err := fullSubject.prepare(l, dir, p)
		if err == nil {
			prog.args[0] = l.built[name]
		}
		return prog, err
	}
	return &s
}
