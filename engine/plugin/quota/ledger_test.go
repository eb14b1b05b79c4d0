package quota

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

// snapshot is one built document of a gateway that reloads.
type snapshot struct {
	env    *pipeline.Env
	hooks  pipeline.Hooks
	holder *pipeline.Holder
	book   *book
	log    *bytes.Buffer
}

func load(t *testing.T, keeper *pipeline.Keeper, dir, settings string) *snapshot {
	t.Helper()
	s, err := buildIn(t, keeper, dir, settings)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func buildIn(t *testing.T, keeper *pipeline.Keeper, dir, settings string) (*snapshot, error) {
	t.Helper()
	if dir != "" {
		settings += ", state_dir: " + dir
	}
	return buildText(t, keeper, document(settings))
}

func loadText(t *testing.T, keeper *pipeline.Keeper, text string) *snapshot {
	t.Helper()
	s, err := buildText(t, keeper, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newExchange() *pipeline.Exchange { return pipelinetest.NewExchange("GET", "/") }

func buildText(t *testing.T, keeper *pipeline.Keeper, text string) (*snapshot, error) {
	t.Helper()
	s := &snapshot{holder: keeper.Hold(), log: &bytes.Buffer{}}
	base := *pipelinetest.NewEnv(t, text, Spec)
	base.Log = slog.New(slog.NewTextHandler(s.log, nil))
	s.env = pipeline.NewEnv(base, s.holder)
	var err error
	if s.hooks, err = Spec.Build(s.env.Document.Plugins[0], s.env); err != nil {
		if e := s.holder.Release(); e != nil {
			t.Error(e)
		}
		return nil, err
	}
	keeper.Each(func(_ string, value any) {
		if b, ok := value.(*book); ok && b.plan.Load() != nil {
			s.book = b
		}
	})
	return s, nil
}

func (s *snapshot) release(t *testing.T) {
	t.Helper()
	s.hooks.Close()
	if err := s.holder.Release(); err != nil {
		t.Error(err)
	}
}

// use counts a request of a consumer now, as reports look at now, and returns what is
// left.
func (s *snapshot) use(consumer string) string {
	x := newExchange()
	x.Consumer = s.env.Consumers.Find(consumer)
	s.hooks.Request(x)
	x.UpstreamStatus = 200
	s.hooks.Log(x)
	x.ApplyStaged()
	return header(x, "X-Quota-Remaining")
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s left, want %s", got, want)
	}
}

func TestSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	const settings = "quota: {month: 10}, timezone: Europe/Berlin"
	for i := range 3 {
		s := load(t, pipeline.NewKeeper(), dir, settings)
		expect(t, s.use("bob"), fmt.Sprint(9-2*i))
		expect(t, s.use("bob"), fmt.Sprint(8-2*i))
		expect(t, s.use("eve"), fmt.Sprint(9-i))
		s.release(t)
		if got := s.log.String(); got != "" {
			t.Errorf("log %q", got)
		}
	}
}

func TestSurvivesReload(t *testing.T) {
	dir, keeper := t.TempDir(), pipeline.NewKeeper()
	first := load(t, keeper, dir, "quota: {month: 10}")
	expect(t, first.use("bob"), "9")
	second := load(t, keeper, dir, "quota: {month: 20}, error_message: Enough, warn_at: 10, keys_max: 128")
	expect(t, second.use("bob"), "18")
	expect(t, first.use("bob"), "7")
	first.release(t)
	expect(t, second.use("bob"), "16")
	// Other periods have counts of their own, and what they left is still there.
	third := load(t, keeper, dir, "quota: {month: 10}, reset_on: 15")
	expect(t, third.use("bob"), "9")
	second.release(t)
	fourth := load(t, keeper, dir, "quota: {month: 20}")
	third.release(t)
	expect(t, fourth.use("bob"), "15")
	fourth.release(t)
}

// saved lets the ledger write as the engine does once a second, and waits for it.
func saved(t *testing.T, s *snapshot) {
	t.Helper()
	l := s.book.ledger
	// The goroutine takes one wake-up at a time: when it has taken the second it is
	// done with the first.
	l.wake <- struct{}{}
	l.wake <- struct{}{}
	l.wake <- struct{}{}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	s := load(t, pipeline.NewKeeper(), dir, "quota: {month: 1000}")
	path := s.book.ledger.path(1)
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	saved(t, s)
	empty := size()
	s.use("bob")
	saved(t, s)
	one := size()
	saved(t, s)
	if one <= empty || size() != one {
		t.Errorf("%d bytes, %d with a count, %d with nothing more", empty, one, size())
	}
	for range 100 {
		s.use("bob")
	}
	saved(t, s)
	// Three writes at most: those that saved asks for last may not be over when it returns.
	if got := size() - one; got == 0 || got > 3*(one-empty) {
		t.Errorf("%d bytes for a hundred counts of a caller, %d for one", got, one-empty)
	}
	s.release(t)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != fileMode {
		t.Errorf("%v %v", info, err)
	}
}

func TestFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	s := load(t, pipeline.NewKeeper(), dir, "quota: {month: 1000}")
	s.use("bob")
	saved(t, s)
	l := s.book.ledger
	close(l.quit) // the test is the goroutine now
	<-l.done
	l.renewAt = 0
	s.use("bob")
	if err := l.write(); err != nil {
		t.Fatal(err)
	}
	numbers, err := l.list()
	if err != nil || len(numbers) != 1 || numbers[0] != 2 {
		t.Errorf("files %d, %v", numbers, err)
	}
	s.use("bob")
	if err := l.write(); err != nil { // appended
		t.Fatal(err)
	}
	l.quit, l.done = make(chan struct{}), make(chan struct{})
	go l.run()
	s.release(t)
	s = load(t, pipeline.NewKeeper(), dir, "quota: {month: 1000}")
	expect(t, s.use("bob"), "996")
	s.release(t)
}

func TestTwoGatewaysOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	s := load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
	_, err := buildIn(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
	want := fmt.Sprintf("in use by another gateway (process %d): give each its own state_dir, or count in Redis", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v\nwant %s", err, want)
	}
	s.use("bob")
	s.release(t)
	s = load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
	expect(t, s.use("bob"), "8")
	s.release(t)
}

func TestNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := buildIn(t, pipeline.NewKeeper(), file, "quota: {month: 10}"); err == nil || !strings.Contains(err.Error(), "state_dir: ") {
		t.Errorf("got %v", err)
	}
}

func TestStateDir(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("STATE_DIRECTORY", dir+":/elsewhere")
	s := load(t, pipeline.NewKeeper(), "", "quota: {month: 10}")
	if got := s.book.ledger.dir; got != filepath.Join(dir, "quota", s.env.Document.Plugins[0].ID, "month-first_day-UTC") {
		t.Errorf("directory %s", got)
	}
	s.release(t)
	t.Setenv("TMPDIR", dir)
	s = load(t, pipeline.NewKeeper(), filepath.Join(dir, "sluice-state"), "quota: {month: 10}")
	defer s.release(t)
	if got := s.log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "set state_dir") {
		t.Errorf("log %q", got)
	}
}

func TestFileName(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := fileName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	f("month-15-Europe/Berlin", "month-15-Europe_Berlin")
	f("../../etc", "______etc")
	f("", "")
}

func TestWriteErrors(t *testing.T) {
	dir := t.TempDir()
	s := load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
	l := s.book.ledger
	saved(t, s)
	close(l.quit)
	<-l.done
	// A closed file refuses what is written to it.
	if err := l.file.Close(); err != nil {
		t.Fatal(err)
	}
	s.use("bob")
	l.save()
	if got := s.log.String(); l.failures.Load() != 1 || !strings.Contains(got, "counts cannot be written") {
		t.Errorf("%d failures, log %q", l.failures.Load(), got)
	}
	// The next time all is written to a new file, with what the failure has swallowed.
	l.save()
	if l.number != 2 || !strings.Contains(s.log.String(), "counts are written again") && l.last == nil {
		t.Errorf("file %d, %v, log %q", l.number, l.last, s.log)
	}
	l.last = nil
	l.quit, l.done = make(chan struct{}), make(chan struct{})
	go l.run()
	s.hooks.Close()
	if err := s.holder.Release(); err != nil {
		t.Error(err)
	}
	s = load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
	expect(t, s.use("bob"), "8")
	s.release(t)
}

func TestDamage(t *testing.T) {
	// f damages the files of 5 counts of bob and tells what is left of 10 after one more.
	f := func(what string, damage func(data []byte) []byte, left, log string) {
		t.Helper()
		dir := t.TempDir()
		s := load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
		s.release(t)
		s = load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
		for range 4 {
			s.use("bob")
		}
		saved(t, s)
		s.use("bob")
		path := s.book.ledger.path(2)
		s.release(t)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, damage(data), 0o600); err != nil {
			t.Fatal(err)
		}
		s = load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
		defer s.release(t)
		if got := s.use("bob"); got != left || !strings.Contains(s.log.String(), log) {
			t.Errorf("%s: %s left, want %s; log %q", what, got, left, s.log)
		}
		aside, _ := filepath.Glob(filepath.Join(s.book.ledger.dir, "*.damaged"))
		if (len(aside) == 1) != strings.Contains(log, "ERROR") {
			t.Errorf("%s: kept aside %q", what, aside)
		}
	}
	f("nothing", func(d []byte) []byte { return d }, "4", "")
	f("torn", func(d []byte) []byte { return d[:len(d)-1] }, "5", "level=INFO")
	f("torn at the start of a batch", func(d []byte) []byte { return append(d, 'S', 'L') }, "4", "level=INFO")
	f("zeros, as some file systems leave", func(d []byte) []byte { return append(d, make([]byte, 4096)...) }, "4", "level=INFO")
	f("an empty file", func([]byte) []byte { return nil }, "9", "level=ERROR")
	f("another file", func([]byte) []byte { return []byte("what is this? not a file of counts") }, "9", "level=ERROR")
	f("another seed", func(d []byte) []byte { d[8] ^= 1; return d }, "9", "level=ERROR")
	f("the snapshot", func(d []byte) []byte { d[headerBytes] ^= 1; return d }, "9", "level=ERROR")
}

func TestUnfinishedFile(t *testing.T) {
	dir := t.TempDir()
	s := load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
	s.use("bob")
	path := s.book.ledger.path(7) + ".new"
	s.release(t)
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = load(t, pipeline.NewKeeper(), dir, "quota: {month: 10}")
	expect(t, s.use("bob"), "8")
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the unfinished file is still there: %v", err)
	}
	s.release(t)
}

// crashDir tells the child of TestCrash where to count.
const crashDir = "SLUICE_TEST_QUOTA_CRASH"

// TestCrash kills a process that counts: what was counted before the last write must be
// there, and nothing that was not counted.
func TestCrash(t *testing.T) {
	const settings = "quota: {month: 9007199254740992}"
	const limit = 9007199254740992
	if dir := os.Getenv(crashDir); dir != "" {
		s := load(t, pipeline.NewKeeper(), dir, settings)
		fmt.Println() // behind what the test framework writes
		for n := 1; ; n++ {
			s.use("bob")
			if n%100 == 0 {
				saved(t, s)
				fmt.Println("saved", n)
			}
		}
	}
	dir := t.TempDir()
	last := 0
	for round := range 3 {
		child := exec.Command(os.Args[0], "-test.run=^TestCrash$")
		child.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		saves, n := 0, 0
		for saves < 5+round && lines.Scan() {
			if _, err := fmt.Sscanf(lines.Text(), "saved %d", &n); err == nil {
				saves++
			}
		}
		_ = child.Process.Kill()
		for lines.Scan() {
			_, _ = fmt.Sscanf(lines.Text(), "saved %d", &n) // printed before the kill
		}
		_ = child.Wait()
		if n == 0 {
			t.Fatal("the child saved nothing")
		}
		s := load(t, pipeline.NewKeeper(), dir, settings)
		var left int
		if _, err := fmt.Sscan(s.use("bob"), &left); err != nil {
			t.Fatal(err)
		}
		s.release(t)
		found := limit - left - 1
		// At most 100 counts, and the write of them, were under way.
		if found < last+n || found > last+n+200 {
			t.Errorf("%d counts found, %d were there and %d saved since", found, last, n)
		}
		last = found + 1
	}
}
