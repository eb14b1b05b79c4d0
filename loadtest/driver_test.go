// Package loadtest holds the driver's tests to be run with all others: the driver is a
// module of its own, which ./... does not reach.
package loadtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDriver runs the tests of loadtest/run, under the race detector if it is on here.
func TestDriver(t *testing.T) {
	// Looking at every file makes the go command notice when a cached result is out of date.
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "bin" || name == "results") {
			return filepath.SkipDir
		}
		_, err = os.Stat(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-C", "run", "test", "-count=1", "-shuffle=on", "-timeout=5m"}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./...")...)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("tests of loadtest/run: %v", err)
	}
}
