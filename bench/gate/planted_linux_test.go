//go:build !race

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What is planted into the gateway, by the environment variable PLANTED of the program
// that has it. Without the variable nothing happens.
const (
	plantedVariable   = "PLANTED="
	plantedSpinFor    = "PLANTED_SPIN="
	plantedAllocation = "allocation"
	plantedCall       = "call"
	plantedSpin       = "spin"
)

const plantedSource = `package engine

import (
	"os"
	"syscall"
	"time"
)

var (
	plantedWhat  = os.Getenv("PLANTED")
	plantedSteps int
	plantedSum   int
	plantedKept  *[64]byte
)

func plantedWalk(steps int) {
	sum := plantedSum
	for i := range steps {
		sum = sum*31 + i
	}
	plantedSum = sum
}

// The duration becomes steps at the best speed seen, so that a processor which is slowed
// down by others is slow for the steps as it is for the rest of the request.
func init() {
	if plantedWhat != "spin" {
		return
	}
	spin, err := time.ParseDuration(os.Getenv("PLANTED_SPIN"))
	if err != nil {
		panic(err)
	}
	const trial = 20000
	best := time.Hour
	for range 200 {
		began := time.Now()
		plantedWalk(trial)
		best = min(best, time.Since(began))
	}
	plantedSteps = int(trial * spin / best)
}

func planted() {
	switch plantedWhat {
	case "allocation":
		plantedKept = new([64]byte)
	case "call":
		syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
	case "spin":
		plantedWalk(plantedSteps)
	}
}
`

// plantedPlace is the line of engine/serve.go after which planted is called: every request
// passes it once.
const plantedPlace = "\nfunc (e *Engine) serve(x *exchange) {\n"

// plant returns source with the call in its place.
func plant(source string) (string, error) {
	if n := strings.Count(source, plantedPlace); n != 1 {
		return "", fmt.Errorf("engine/serve.go: want the place to plant %q once, found it %d times", plantedPlace, n)
	}
	return strings.Replace(source, plantedPlace, plantedPlace+"\tplanted()\n", 1), nil
}

// The proofs below would prove nothing if nothing were planted.
func TestPlantNeedsItsPlace(t *testing.T) {
	f := func(source, want string) {
		t.Helper()
		got, err := plant(source)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", source, got, err, want)
		}
	}
	f("package engine\n"+plantedPlace+"}\n", "package engine\n"+plantedPlace+"\tplanted()\n}\n")
	f("package engine\n\nfunc (e *Engine) serve(y *exchange) {\n}\n", "")
	f(plantedPlace+plantedPlace, "")
}

// overlay writes an overlay for the go command that plants into engine and returns its path.
func overlay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	engine, err := filepath.Abs("../../engine")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(engine, "serve.go"))
	if err != nil {
		t.Fatal(err)
	}
	patched, err := plant(string(source))
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for name, text := range map[string]string{"serve.go": patched, "planted.go": plantedSource} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(engine, name)] = path
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// runGo runs the go command in the root of the module and returns what it printed.
func runGo(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	cmd.Env = append(childEnv(), env...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return string(text)
}

// buildGateway compiles the gateway as it is, or as flags change it.
func buildGateway(t *testing.T, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice")
	runGo(t, nil, append(append([]string{"build", "-ldflags=-s -w", "-o", path}, flags...), "./cmd/sluice")...)
	return path
}

// startGateway starts a gateway with one route and no plugin in front of the service and
// returns a load for it.
func startGateway(t *testing.T, binary string, service int, env ...string) *load {
	t.Helper()
	port := freePort(t)
	document := filepath.Join(t.TempDir(), "sluice.yaml")
	text := fmt.Sprintf(`_format_version: "3.0"
gateway:
  proxy_listen: "127.0.0.1:%d"
  admin_listen: "off"
  status_listen: "off"
services:
- name: plain
  url: http://127.0.0.1:%d
  routes:
  - {name: plain, paths: ["/"], strip_path: false}
`, port, service)
	if err := os.WriteFile(document, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, cpu := cpus(t)
	c := startChild(t, cpu, append(env, "GOMAXPROCS=1"), binary, "run", "-c", document)
	return openLoad(t, c, port)
}

// startRelay starts the byte relay in front of the service and returns a load for it.
func startRelay(t *testing.T, service int) *load {
	t.Helper()
	port := freePort(t)
	_, cpu := cpus(t)
	return openLoad(t, startChild(t, cpu, nil, buildC(t, "relay"), strconv.Itoa(port), strconv.Itoa(service)), port)
}
