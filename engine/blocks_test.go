package engine_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestBlocks loads every configuration of testdata/blocks, the patterns users
// bring, in friendly mode. A block either loads or names the plugins it lacks,
// each at its line: the golden file lists those, and shrinks as they are built.
func TestBlocks(t *testing.T) {
	files, err := filepath.Glob("testdata/blocks/*.yaml")
	if err != nil || len(files) < 66 {
		t.Fatalf("%d blocks, %v", len(files), err)
	}
	var got strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		_, err = config.Read([]config.Source{{Name: name, Data: data}}, config.Options{Catalog: plugin.All})
		var faults config.Faults
		switch {
		case err == nil:
			fmt.Fprintf(&got, "%s: loads\n", name)
			continue
		case !errors.As(err, &faults):
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, f := range faults {
			if f.Warning {
				continue
			}
			fmt.Fprintf(&got, "%s\n", f.Error())
			if !strings.Contains(f.Message, "is not built yet") && !adminCall[name] {
				t.Errorf("%s fails for another reason than a plugin that is not built yet:\n%s", name, f.Render())
			}
			if f.Line == 0 {
				t.Errorf("%s: a fault without a line: %v", name, f)
			}
		}
	}
	golden(t, "testdata/blocks.golden", got.String())
}

// adminCall marks the blocks that are not YAML: they hold calls of the Admin API.
// The same blocks without those lines are in the files ending in -yaml.yaml.
var adminCall = map[string]bool{
	"38-cache-invalidation.yaml":               true,
	"40-surrogate-key-based-invalidation.yaml": true,
}

// golden compares got with a file, or with -update writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update and look at the change):\n%s", file, firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
