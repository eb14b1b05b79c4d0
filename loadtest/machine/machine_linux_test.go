package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseBusy(t *testing.T) {
	f := func(text string, cpu int, want time.Duration) {
		t.Helper()
		if got, err := parseBusy(text, cpu); err != nil || got != want {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	const text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 1000 2000 4 5 6 0 0\ncpu11 7 7 7 7 7 7 7 7 7 7\nintr 5\n"
	f(text, 1, 210*time.Millisecond)
	f("cpu1 1 2 3 400 500 6 7 8 9 9\n", 1, 270*time.Millisecond)
	bad := func(text string, cpu int) {
		t.Helper()
		if _, err := parseBusy(text, cpu); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
	bad(text, 2)
	bad("cpu1 1 2 3\n", 1)
	bad("cpu1 1 2 x 1000 2000 4 5 6 0 0\n", 1)
}

// A thread has the CPUs it was given, what it starts inherits them, and release gives back
// those it had.
func TestPinThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := AllowedCPUs()
	if err != nil || len(before) == 0 {
		t.Fatalf("%v, %v", before, err)
	}
	last := before[len(before)-1:]
	release, err := PinThread(last)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := AllowedCPUs(); err != nil || !slices.Equal(got, last) {
		t.Errorf("pinned to %v, got %v, %v", last, got, err)
	}
	child, err := exec.Command("grep", "Cpus_allowed_list", "/proc/self/status").Output()
	if fields := strings.Fields(string(child)); err != nil || len(fields) != 2 || strings.ContainsAny(fields[1], ",-") {
		t.Errorf("a child may use %q, %v", child, err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if got, err := AllowedCPUs(); err != nil || !slices.Equal(got, before) {
		t.Errorf("had %v, has %v, %v", before, got, err)
	}
	if _, err := PinThread([]int{1000}); err == nil || !strings.Contains(err.Error(), "[1000]") {
		t.Errorf("a CPU that does not exist: %v", err)
	}
	if release, err := PinThread(nil); err != nil || release() != nil {
		t.Errorf("no CPUs: %v", err)
	}
}

func TestNames(t *testing.T) {
	if got := Kernel(); !regexp.MustCompile(`^Linux \S+ ` + runtime.GOARCH + `$`).MatchString(got) {
		t.Errorf("kernel %q", got)
	}
	if CPUModel() == "" {
		t.Error("no model")
	}
	if got := Commit(t.Context(), t.TempDir()); !strings.HasPrefix(got, "unknown") {
		t.Errorf("a folder without commits has %q", got)
	}
	if _, err := BusyTime(1000); err == nil {
		t.Error("a CPU that does not exist was busy")
	}
}

func TestCommit(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		args = append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"}, args...)
		out, err := exec.Command("git", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	file := filepath.Join(dir, "a")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "-q")
	write("one")
	git("add", "a")
	git("commit", "-q", "-m", "one")
	id := git("rev-parse", "--short=12", "HEAD")
	if got := Commit(t.Context(), dir); got != id {
		t.Errorf("got %q, want %q", got, id)
	}
	write("two")
	if got := Commit(t.Context(), dir); got != id+"+changes" {
		t.Errorf("got %q, want %q", got, id+"+changes")
	}
}
