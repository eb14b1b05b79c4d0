package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tool is a generator that is built from source at one version.
type tool struct{ name, pkg, module, version string }

var (
	toolVegeta = tool{"vegeta", "github.com/tsenart/vegeta/v12", "github.com/tsenart/vegeta/v12", "v12.13.0"}
	toolK6     = tool{"k6", "go.k6.io/k6", "go.k6.io/k6", "v1.8.1"}
)

// present says whether path is t at its version.
func (t *tool) present(path string) bool {
	info, err := buildinfo.ReadFile(path)
	return err == nil && info.Main.Path == t.module && info.Main.Version == t.version
}

// ensure returns the path of t in the folder bin and builds it there if it is missing
// or of another version.
func (t *tool) ensure(ctx context.Context, bin string) (string, error) {
	path := filepath.Join(bin, t.name)
	if t.present(path) {
		return path, nil
	}
	fmt.Fprintf(os.Stderr, "building %s %s; the first time this takes some minutes\n", t.name, t.version)
	cmd := exec.CommandContext(ctx, "go", "install", t.pkg+"@"+t.version)
	cmd.Env = append(os.Environ(), "GOBIN="+bin, "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s %s: %w\n%s", t.name, t.version, err, out)
	}
	if !t.present(path) {
		return "", fmt.Errorf("%s is not %s %s after it was built", path, t.module, t.version)
	}
	return path, nil
}

// build makes the gateway and the stub from the tree at root, and the generators.
func build(ctx context.Context, root string, sc *Scenario) (builds, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, buildMax, fmt.Errorf("building took longer than %s", buildMax))
	defer cancel()
	bin := filepath.Join(root, "loadtest", "bin")
	b := builds{sluice: filepath.Join(bin, "sluice"), stubd: filepath.Join(bin, "stubd")}
	for path, pkg := range map[string]string{b.sluice: "./cmd/sluice", b.stubd: "./loadtest/stubd"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=local")
		if out, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("build %s: %w\n%s", pkg, err, strings.TrimSpace(string(out)))
		}
	}
	var err error
	if sc.Generator == "k6" {
		b.k6, err = toolK6.ensure(ctx, bin)
	} else {
		b.vegeta, err = toolVegeta.ensure(ctx, bin)
	}
	return b, err
}
