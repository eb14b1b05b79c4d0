package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
)

// sampleJudgement has every verdict and every measure.
func sampleJudgement(t *testing.T) *judgement {
	t.Helper()
	const calls = `"recvfrom":2,"sendto":2`
	was := measure(t, header+"BenchmarkA|B-2 10 5 ns/op 0 B/op 0 allocs/op\nBenchmarkGone_x-2 1 1 ns/op 0 B/op 0 allocs/op\n",
		wireText("<plain>", "relay", calls, spread(1.2, 10)...))
	is := measure(t, header+"BenchmarkA|B-2 10 5 ns/op 0 B/op 1 allocs/op\n",
		strings.ReplaceAll(wireText("<plain>", "relay", calls+`,"getppid":1`, spread(1.21, 10)...), "abc", "def"))
	return judge(was, is, usual)
}

func render(t *testing.T, format string, j *judgement) string {
	t.Helper()
	var b bytes.Buffer
	if err := formats[format](&b, j); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFormatText(t *testing.T) {
	got := render(t, "text", sampleJudgement(t))
	for _, want := range []string{
		"row                                measure        baseline  run    change  p      verdict\n",
		"example.org/a/bench.BenchmarkA|B   allocs/op      0         1      +1      -      FAIL\n",
		"example.org/a/bench.BenchmarkGone_x  allocs/op    -",
		"proxied/<plain>                    x floor        1.200     1.210  +0.8 %  0.",
		"proxied/<plain>                    calls/request  4.00      5.00   +1.00   -      FAIL\n",
		`note: commit: the baseline's is "abc"`,
		"note: example.org/a/bench.BenchmarkGone_x: in the baseline, not in the result\n",
		"FAIL: proxied/<plain>: 5.00 calls per request, were 4.00: getppid 1.00, was 0.00\n",
	} {
		if !strings.Contains(squeeze(got), squeeze(want)) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if !strings.HasSuffix(got, "\ngate: 2 rows compared, 2 failures\n") {
		t.Errorf("the last line:\n%s", got)
	}
	lines := strings.Split(got, "\n")
	if at := strings.Index(lines[0], "verdict"); at < 0 || !strings.HasPrefix(lines[1][at:], "FAIL") {
		t.Errorf("the columns do not stand below each other:\n%s", got)
	}
}

// squeeze makes one space of many: widths are the tabwriter's.
func squeeze(s string) string {
	for strings.Contains(s, "  ") {
		s = strings.ReplaceAll(s, "  ", " ")
	}
	return s
}

func TestFormatMarkdown(t *testing.T) {
	got := render(t, "markdown", sampleJudgement(t))
	lines := strings.Split(got, "\n")
	for i, want := range []string{
		"| row | measure | baseline | run | change | p | verdict |",
		"| --- | --- | ---: | ---: | ---: | ---: | --- |",
		`| example.org/a/bench.BenchmarkA\|B | allocs/op | 0 | 1 | +1 | - | **FAIL** |`,
		`| example.org/a/bench.BenchmarkGone\_x | allocs/op | - | - | - | - | note |`,
		`| proxied/\<plain> | x floor | 1.200 | 1.210 | +0.8 % | `,
		`| proxied/\<plain> | calls/request | 4.00 | 5.00 | +1.00 | - | **FAIL** |`,
		"",
		`- note: commit: the baseline's is "abc", the run's "def"`,
	} {
		if !strings.HasPrefix(lines[i], want) || (want == "") != (lines[i] == "") {
			t.Errorf("line %d: got %q, want %q", i+1, lines[i], want)
		}
	}
	for _, line := range lines[:6] {
		if n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); n != len(columns)+1 {
			t.Errorf("%d bars in %q", n, line)
		}
	}
}

func TestFormatJSON(t *testing.T) {
	var got struct {
		Passed   *bool
		Failures int
		Findings []finding
		Notes    []string
	}
	if err := json.Unmarshal([]byte(render(t, "json", sampleJudgement(t))), &got); err != nil {
		t.Fatal(err)
	}
	if got.Passed == nil || *got.Passed || got.Failures != 2 || len(got.Findings) != 4 || len(got.Notes) != 1 {
		t.Fatalf("%+v", got)
	}
	calls := got.Findings[3]
	if calls.Row != "proxied/<plain>" || calls.Measure != measureCalls || *calls.Baseline != 4 || *calls.Run != 5 || *calls.Change != 1 || calls.P != nil || calls.Verdict != fail {
		t.Errorf("%+v", calls)
	}
	if ratio := got.Findings[2]; ratio.P == nil || *ratio.P <= 0 || ratio.Verdict != pass {
		t.Errorf("%+v", ratio)
	}
	if text := render(t, "json", judge(measure(t), measure(t), usual)); !strings.Contains(text, `"passed": true`) || strings.Contains(text, "null") {
		t.Errorf("nothing compared: %s", text)
	}
}

func TestFormatJUnit(t *testing.T) {
	text := render(t, "junit", sampleJudgement(t))
	if !strings.HasPrefix(text, xml.Header) {
		t.Errorf("no XML header: %s", text)
	}
	var got junitSuite
	if err := xml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got.Name != "gate" || got.Tests != 4 || got.Failures != 2 || len(got.Cases) != 4 || !strings.Contains(got.Out, "commit: ") {
		t.Fatalf("%+v", got)
	}
	failed := 0
	for _, c := range got.Cases {
		if c.Failure != nil {
			failed++
		}
	}
	if last := got.Cases[3]; failed != 2 || last.Class != "proxied/<plain>" || last.Name != measureCalls || !strings.Contains(last.Failure.Message, "getppid") {
		t.Errorf("%d failed, the last case is %+v", failed, last)
	}
	if gone := got.Cases[1]; gone.Failure != nil || !strings.Contains(gone.Out, "not in the result") {
		t.Errorf("%+v", gone)
	}
}
