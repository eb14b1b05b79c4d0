package main

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/examples"
)

// gatingFile returns the block of docs/gating.md whose first line names a file.
func gatingFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/gating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n```yml\n# "+name+"\n")
	block, _, closed := strings.Cut(rest, "\n```")
	if !ok || !closed {
		t.Fatalf("docs/gating.md has no block %s", name)
	}
	return block + "\n"
}

type workflowStep struct {
	Name, Run, Uses string
	Env             map[string]string
	With            map[string]string
}

// TestGatingWorkflow executes the lines of the workflow in docs/gating.md with the
// profile and the overlay shown there, on the example's document, as a runner would.
func TestGatingWorkflow(t *testing.T) {
	var workflow struct {
		On   map[string]any
		Jobs map[string]struct {
			Env   map[string]string
			Steps []workflowStep
		}
	}
	if err := yaml.Unmarshal([]byte(gatingFile(t, ".github/workflows/gateway.yml")), &workflow); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"vars.SLUICE_URL": "file://" + binary, "vars.SLUICE_SHA256": fmt.Sprintf("%x", sha256.Sum256(data)),
		"secrets.GATEWAY_API_KEY": "alice-key",
	}
	for name, text := range map[string]string{
		"gateway/sluice.yaml": string(examples.Quickstart), "gateway/profile.yaml": gatingFile(t, "gateway/profile.yaml"),
		"gateway/trial.yaml": gatingFile(t, "gateway/trial.yaml"),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	job := workflow.Jobs["trial"]
	summary := filepath.Join(dir, "summary.md")
	ran := 0
	for i := range job.Steps {
		s := &job.Steps[i]
		if s.Run == "" {
			continue
		}
		ran++
		cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", s.Run)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RUNNER_TEMP="+dir, "GITHUB_PATH="+filepath.Join(dir, "path"), "GITHUB_STEP_SUMMARY="+summary,
			"PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
		for _, env := range []map[string]string{job.Env, s.Env} {
			for name, value := range env {
				cmd.Env = append(cmd.Env, name+"="+evaluated(t, value, values))
			}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", s.Name, err, out)
		}
	}
	if ran != 4 || workflow.On["pull_request"] == nil {
		t.Errorf("%d steps ran; triggers: %v", ran, workflow.On)
	}
	if text, err := os.ReadFile(summary); err != nil || !strings.HasPrefix(string(text), "## Gateway trial: orders gateway\n") || !strings.Contains(string(text), "| wire_ratio | 20.00x |") {
		t.Errorf("the summary: %v\n%s", err, text)
	}
	var suite struct {
		Tests int `xml:"tests,attr"`
	}
	if text, err := os.ReadFile(filepath.Join(dir, "trial.xml")); err != nil || xml.Unmarshal(text, &suite) != nil || suite.Tests != 4 {
		t.Errorf("JUnit: %v\n%s", err, text)
	}
	artifact := job.Steps[len(job.Steps)-1].With["path"]
	for name := range strings.FieldsSeq(artifact) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("what is kept is not there: %v", err)
		}
	}
}

var expression = regexp.MustCompile(`\$\{\{ *([\w.]+) *\}\}`)

// evaluated puts values in for ${{ ... }}.
func evaluated(t *testing.T, text string, values map[string]string) string {
	return expression.ReplaceAllStringFunc(text, func(e string) string {
		name := expression.FindStringSubmatch(e)[1]
		value, ok := values[name]
		if !ok {
			t.Errorf("the workflow uses %s, which the page does not explain", name)
		}
		return value
	})
}

// TestGatingCommands executes the shell block of docs/gating.md on the example's document.
func TestGatingCommands(t *testing.T) {
	text, err := os.ReadFile("../../docs/gating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n```sh\n")
	block, _, ok := strings.Cut(rest, "\n```")
	if !ok || strings.Count(block, "sluice bench") != 2 {
		t.Fatalf("docs/gating.md has no commands:\n%s", block)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sluice.yaml"), examples.Quickstart, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-e")
	cmd.Stdin = io.NopCloser(strings.NewReader(block))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
