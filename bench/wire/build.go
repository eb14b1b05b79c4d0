package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// buildLimit bounds all compilations of a run.
const buildLimit = 4 * time.Minute

// binary is an executable made for a run; subjects may share one.
type binary struct {
	name string
	make func(ctx context.Context, l *lab) (path string, err error)
}

// build makes what the subjects need, each once.
func (l *lab) build(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	for _, name := range l.o.subjects {
		b := mustRow(name).binary
		if b == nil || l.built[b.name] != "" {
			continue
		}
		path, err := b.make(ctx, l)
		if err != nil {
			return fmt.Errorf("build %s: %w", b.name, err)
		}
		l.built[b.name] = path
	}
	return nil
}

// buildC compiles one C file into dir/name and returns that path.
func buildC(ctx context.Context, cc, dir, name string, text []byte) (string, error) {
	source, path := filepath.Join(dir, name+".c"), filepath.Join(dir, name)
	if err := os.WriteFile(source, text, 0o600); err != nil {
		return "", err
	}
	_, err := output(exec.CommandContext(ctx, cc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, source))
	return path, err
}

// buildGo compiles one of this module's commands into dir and returns its path.
func buildGo(ctx context.Context, dir, folder string) (string, error) {
	path := filepath.Join(dir, filepath.Base(folder))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "github.com/sluice-gateway/sluice/"+folder)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err := output(cmd)
	return path, err
}

// output runs a short command; its error carries what the command printed.
func output(cmd *exec.Cmd) (string, error) {
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(text))
	}
	return string(text), nil
}
