package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// TestExamples reads every document of this folder: no fault by Kong's own rules, and
// no warning otherwise.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		if file == "profile.yaml" {
			continue // no document: cmd/sluice reads it as sluice bench does
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		read(t, file, string(text))
	}
}

// TestManuals reads the documents that docs shows; parts of one lack what they refer to.
func TestManuals(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	shown := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "\n```yaml\n")[1:] {
			block, _, _ := strings.Cut(part, "\n```")
			if !strings.Contains(block, "services:") {
				block = "services: [{name: orders, host: orders.internal, routes: [{name: orders, paths: [/orders]}]}]\n" + block
			}
			read(t, file, "_format_version: \"3.0\"\n"+block)
			shown++
		}
	}
	if shown < 3 {
		t.Errorf("only %d documents were found", shown)
	}
}

func read(t *testing.T, name, text string) {
	t.Helper()
	for _, strict := range []bool{true, false} {
		d, err := config.Read([]config.Source{{Name: name, Data: []byte(text)}}, config.Options{Catalog: plugin.All, Strict: strict})
		if err != nil {
			t.Errorf("%s:\n%v", name, err)
			return
		}
		for _, w := range d.Warnings {
			if !strict {
				t.Errorf("%s: %v", name, w)
			}
		}
	}
}
