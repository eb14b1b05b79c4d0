package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// formats are what -format takes.
var formats = map[string]func(io.Writer, *judgement) error{
	"text": writeText, "markdown": writeMarkdown, "json": writeJSON, "junit": writeJUnit,
}

func formatNames() []string { return slices.Sorted(maps.Keys(formats)) }

// columns head the table of people's formats.
var columns = []string{"row", "measure", "baseline", "run", "change", "p", "verdict"}

// cells are one line of that table.
func (f *finding) cells() []string {
	change := "-"
	switch {
	case f.Change == nil:
	case f.Measure == measureRatio:
		change = fmt.Sprintf("%+.1f %%", 100**f.Change)
	case f.Measure == measureCalls:
		change = fmt.Sprintf("%+.2f", *f.Change)
	default:
		change = fmt.Sprintf("%+g", *f.Change)
	}
	p := "-"
	if f.P != nil {
		p = fmt.Sprintf("%.3f", *f.P)
	}
	return []string{f.Row, f.Measure, f.figure(f.Baseline), f.figure(f.Run), change, p, string(f.Verdict)}
}

func (f *finding) figure(value *float64) string {
	switch {
	case value == nil:
		return "-"
	case f.Measure == measureRatio:
		return fmt.Sprintf("%.3f", *value)
	case f.Measure == measureCalls:
		return fmt.Sprintf("%.2f", *value)
	}
	return fmt.Sprintf("%g", *value)
}

// messages are what must be read beside the table, failures last.
func (j *judgement) messages() []string {
	var notes, failures []string
	for _, text := range j.Notes {
		notes = append(notes, "note: "+text)
	}
	for _, f := range j.Findings {
		switch f.Verdict {
		case note:
			notes = append(notes, fmt.Sprintf("note: %s: %s", f.Row, f.Message))
		case fail:
			failures = append(failures, fmt.Sprintf("FAIL: %s: %s", f.Row, f.Message))
		}
	}
	return append(notes, failures...)
}

// summary is the last line.
func (j *judgement) summary() string {
	return fmt.Sprintf("gate: %d rows compared, %d failures", j.rows(), j.failures())
}

// writeText writes a table, notes, failures and a closing line for a terminal.
func writeText(w io.Writer, j *judgement) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, strings.Join(columns, "\t")) // into memory
	for _, f := range j.Findings {
		_, _ = fmt.Fprintln(t, strings.Join(f.cells(), "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b.WriteByte('\n')
	for _, text := range j.messages() {
		fmt.Fprintln(&b, text)
	}
	fmt.Fprintln(&b, j.summary())
	_, err := b.WriteTo(w)
	return err
}

// markdownEscapes are what would end a cell or become markup in names.
var markdownEscapes = strings.NewReplacer(`\`, `\\`, "|", `\|`, "*", `\*`, "_", `\_`, "<", `\<`, "`", "\\`", "[", `\[`)

// writeMarkdown writes the same for a comment or a job's summary.
func writeMarkdown(w io.Writer, j *judgement) error {
	var b bytes.Buffer
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(columns)
	line([]string{"---", "---", "---:", "---:", "---:", "---:", "---"})
	for _, f := range j.Findings {
		cells := f.cells()
		cells[0] = markdownEscapes.Replace(cells[0])
		if f.Verdict == fail {
			cells[len(cells)-1] = "**FAIL**"
		}
		line(cells)
	}
	b.WriteByte('\n')
	for _, text := range j.messages() {
		fmt.Fprintf(&b, "- %s\n", markdownEscapes.Replace(text))
	}
	fmt.Fprintf(&b, "\n%s\n", j.summary())
	_, err := b.WriteTo(w)
	return err
}
