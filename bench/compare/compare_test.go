package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// work is a package with benchmarks, of which Work takes that many steps and allocations.
const work = `package bench

import "testing"

var sink []byte

func work(steps, allocs int) {
	for range allocs { sink = make([]byte, 64) }
	x := 1
	for i := range steps { x = x*31 + i }
	if x == 0 { sink = nil }
}

func BenchmarkWork(b *testing.B) {
	b.Run("small/a", func(b *testing.B) { for b.Loop() { work(STEPS, ALLOCS) } })
}

func BenchmarkRivals(b *testing.B) {
	for _, size := range []string{"n=1", "n=2"} {
		b.Run(size+"/ours", func(b *testing.B) {
			for b.Loop() { work(200, 0) }
			b.ReportMetric(7, "hit-%")
		})
		b.Run(size+"/theirs", func(b *testing.B) { for b.Loop() { work(20000, 2) } })
	}
	b.Run("n=1/alone", func(b *testing.B) { for b.Loop() { work(1, 0) } })
}
`

// repository is a module with a package ./bench in a git repository, and the current folder.
// Its first commit is slow, its second fast; the work tree is the second.
func repository(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	t.Chdir(folder)
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"}, args...)
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	git("init", "-q")
	write(t, "go.mod", "module example.org/compared\n\ngo 1.26\n")
	write(t, "bench/bench_test.go", strings.NewReplacer("STEPS", "20000", "ALLOCS", "3").Replace(work)+
		"\nfunc BenchmarkOld(b *testing.B) { for b.Loop() { work(1, 0) } }\n")
	git("add", ".")
	git("commit", "-qm", "slow")
	write(t, "bench/bench_test.go", strings.NewReplacer("STEPS", "200", "ALLOCS", "0").Replace(work)+
		"\nfunc BenchmarkNew(b *testing.B) { for b.Loop() { work(1, 0) } }\n")
	git("commit", "-qam", "fast")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run runs the command and holds its exit status.
func run(t *testing.T, want int, args ...string) (out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	if got := status(context.Background(), args, &o, &e); got != want {
		t.Fatalf("%q: exit status %d, want %d\n%s\n%s", args, got, want, &o, &e)
	}
	return o.String(), e.String()
}

func matches(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		if !regexp.MustCompile("(?m)" + pattern).MatchString(text) {
			t.Errorf("nothing matches %s in\n%s", pattern, text)
		}
	}
}

func TestPrograms(t *testing.T) {
	repository(t)
	fast := []string{"-rounds", "5", "-benchtime", "100x"}
	all := func(args ...string) []string { return append(args, fast...) }

	out, _ := run(t, 0, all("-base", "HEAD~1", "-run", "HEAD", "-bench", "Work|New|Old")...)
	matches(t, out,
		`^base: commit [0-9a-f]{40}$`, `^run:  commit [0-9a-f]{40}$`, `5 rounds of 100x`,
		`^name +base ns/op +run ns/op +delta +p +allocs/op$`,
		`^BenchmarkWork/small/a +[0-9.]+ \[[0-9.]+ \.\. [0-9.]+\] +[0-9.]+ \[[0-9.]+ \.\. [0-9.]+\] +-[0-9.]+% +0\.0[01]\d +3 → 0$`,
		`^only in base: BenchmarkOld$`, `^only in run: BenchmarkNew$`)
	trees, err := exec.Command("git", "worktree", "list").Output()
	if err != nil || strings.Count(string(trees), "\n") != 1 {
		t.Errorf("worktrees are left: %v\n%s", err, trees)
	}

	// A folder and a binary, and another metric; this way round it is more.
	if text, err := exec.Command("go", "test", "-c", "-o", "fast.test", "./bench").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out, _ = run(t, 0, all("-base", "./fast.test", "-run", ".", "-bench", "Work", "-unit", "allocs/op")...)
	matches(t, out, `^base: binary \./fast\.test$`, `^run:  folder \.$`, `^BenchmarkWork/small/a +0 \[0 \.\. 0\] +0 \[0 \.\. 0\] +~ +1\.000 +0 → 0$`)
	out, _ = run(t, 0, all("-base", "./fast.test", "-run", "HEAD~1", "-bench", "Work", "-unit", "allocs/op")...)
	matches(t, out, `^BenchmarkWork/small/a .* from 0 +0\.0\d+ +0 → 3$`)
}

func TestRows(t *testing.T) {
	repository(t)
	out, _ := run(t, 0, "-by", "ours", "-bench", "Rivals", "-rounds", "5", "-benchtime", "100x")
	matches(t, out, `^BenchmarkRivals/n=1/\* +ns/op`, `^BenchmarkRivals/n=2/\* +ns/op`,
		`^  ours +[0-9.]+ \[.*\] +0$`, `^  theirs +[0-9.]+ \[.*\] +\+[0-9.]+% +0\.0[01]\d +2$`)
	if n := strings.Count(out, "  alone "); n != 1 {
		t.Errorf("the row that only one group has is there %d times:\n%s", n, out)
	}
	out, _ = run(t, 0, "-by", "ours", "-bench", "Rivals/n=2", "-rounds", "4", "-benchtime", "1x", "-unit", "hit-%")
	matches(t, out, `^  ours +7 \[7 \.\. 7\]`, `^  theirs +not reported`)
}

func TestRefuses(t *testing.T) {
	repository(t)
	f := func(status int, want string, args ...string) {
		t.Helper()
		if _, errs := run(t, status, args...); !strings.Contains(errs, want) {
			t.Errorf("%q: %q is not in\n%s", args, want, errs)
		}
	}
	f(64, "-base is missing", "-run", ".")
	f(64, "one of both is too many", "-base", "HEAD", "-by", "ours")
	f(64, "-rounds 3: at least 4", "-base", "HEAD", "-rounds", "3")
	f(64, `unexpected argument "x"`, "-base", "HEAD", "x")
	f(64, `"y" is not one of`, "-base", "HEAD", "-cpus", "y")
	f(64, "not defined", "-nonsense")
	f(0, "-benchtime", "-h")
	f(1, `"nowhere" is neither a path nor a commit`, "-base", "nowhere")
	f(1, "no package in folder", "-base", ".", "-package", "./none")
	f(1, "a file that is not executable", "-base", "go.mod")
	f(1, "no benchmark of package ./bench matches -bench Nothing", "-base", ".", "-bench", "Nothing")
	f(1, "-by mine: no benchmark has that part", "-by", "mine")
	f(1, "no benchmark is in both", "-base", "HEAD~1", "-run", "HEAD", "-bench", "New|Old")
	write(t, "broken/x_test.go", "package broken\nimport \"testing\"\nfunc BenchmarkX(b *testing.B) { b.Fatal(\"it broke\") }\n")
	f(1, "it broke", "-base", ".", "-package", "./broken")
	write(t, "bad/x_test.go", "package bad\nfunc x() { y }\n")
	f(1, "undefined: y", "-base", ".", "-package", "./bad")
	write(t, "empty/x.go", "package empty\n")
	f(1, "has no tests", "-base", ".", "-package", "./empty")
}

// stopper cancels when the rounds begin.
type stopper struct{ cancel context.CancelFunc }

func (s stopper) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("round 1 ")) {
		s.cancel()
	}
	return len(p), nil
}

// TestInterrupted stops in the middle: nothing stays behind.
func TestInterrupted(t *testing.T) {
	repository(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	if got := status(ctx, []string{"-base", "HEAD~1", "-run", "HEAD", "-bench", "Work", "-benchtime", "100x"}, &out, stopper{cancel}); got != 1 {
		t.Errorf("exit status %d, want 1\n%s", got, &out)
	}
	trees, err := exec.Command("git", "worktree", "list").Output()
	if err != nil || strings.Count(string(trees), "\n") != 1 {
		t.Errorf("worktrees are left: %v\n%s", err, trees)
	}
}
