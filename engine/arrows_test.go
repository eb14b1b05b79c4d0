package engine_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluice-gateway/sluice/"

// arrows say what of ours a package may import. A package that is not listed
// needs a place in the house first. "plugin/*" stands for every plugin.
var arrows = map[string][]string{
	"lb":                           {},
	"limiter":                      {},
	"cache":                        {},
	"engine/router":                {},
	"engine/config":                {},
	"engine/socket":                {},
	"engine/framing":               {},
	"engine/dns":                   {},
	"engine/tunnel":                {"engine/socket"},
	"engine/pipeline":              {"engine/config"},
	"engine/pipeline/pipelinetest": {"engine/config", "engine/pipeline"},
	"engine/redis":                 {"engine/config", "engine/pipeline"},
	"engine/redis/redistest":       {},
	"engine/template":              {"engine/config", "engine/pipeline", "engine/template/form"},
	"engine/template/edit":         {"engine/config", "engine/pipeline", "engine/template", "engine/template/form"},
	"engine/template/form":         {},
	"engine/downstream":            {"engine/framing", "engine/pipeline", "engine/socket"},
	"engine/upstream":              {"engine/config", "engine/dns", "engine/framing", "engine/pipeline", "engine/router", "engine/socket", "lb"},
	"engine/plugin/*":              {"cache", "engine/config", "engine/pipeline", "engine/redis", "engine/template", "engine/template/edit", "engine/template/form", "lb", "limiter"},
	"engine/plugin":                {"engine/pipeline", "engine/plugin/*"},
	"engine/snapshot":              {"engine/config", "engine/pipeline", "engine/router", "engine/upstream"},
	"engine":                       {"engine/config", "engine/downstream", "engine/pipeline", "engine/router", "engine/snapshot", "engine/tunnel", "engine/upstream"},
	"engine/admin":                 {"engine/config"},
	"cmd/*":                        {"*"},
	"examples":                     {},
	"loadtest/machine":             {},
	"loadtest/stats":               {},
	"loadtest/stub":                {},
	"loadtest/stubd":               {"loadtest/stub"},
	"loadtest/run":                 {"loadtest/machine", "loadtest/stats"},
	"loadtest/trial":               {"engine/config", "loadtest/machine", "loadtest/stats"},
	"bench":                        {"*"},
	"bench/*":                      {"*"},
}

// TestArrows holds every import between our packages against the arrows.
func TestArrows(t *testing.T) {
	root := ".."
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		from := room(filepath.ToSlash(rel))
		allowed, ok := arrows[from]
		if !ok {
			t.Errorf("%s: package %s has no place in the arrows", path, from)
			return nil
		}
		seen[from] = true
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			ours, ok := strings.CutPrefix(name, module)
			if !ok || slices.Contains(allowed, "*") {
				continue
			}
			// A plugin may keep parts of itself in folders below its own.
			if from == "engine/plugin/*" && strings.HasPrefix(ours, filepath.ToSlash(rel)+"/") {
				continue
			}
			if !slices.Contains(allowed, room(ours)) {
				t.Errorf("%s: %s must not import %s", path, from, ours)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for from := range arrows {
		if !seen[from] && !strings.HasSuffix(from, "*") {
			t.Errorf("the arrows name %s, which does not exist", from)
		}
	}
}

// room returns the entry of arrows that a folder belongs to.
func room(dir string) string {
	for _, prefix := range []string{"engine/plugin/", "cmd/", "bench/"} {
		if strings.HasPrefix(dir, prefix) {
			return prefix + "*"
		}
	}
	return dir
}
