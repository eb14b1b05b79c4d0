package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// update writes the results into the baseline files of their kind and notes in j what it
// wrote and what it kept. Nothing is written when the run itself failed, or when a kind
// has not exactly one file to go to.
func update(baselines []*file, result *measured, j *judgement) error {
	if err := errors.Join(j.unusable...); err != nil {
		return fmt.Errorf("the baseline stays: %w", err)
	}
	texts := map[string][]byte{}
	for _, k := range []struct {
		kind   kind
		has    bool
		render func(*file) ([]byte, error)
	}{
		{benchmarks, len(result.bench.order) > 0, func(f *file) ([]byte, error) { return renderBench(f.bench, result.bench), nil }},
		{wireRows, len(result.wire.rows) > 0, func(f *file) ([]byte, error) { return renderWire(f.wire, result.wire) }},
	} {
		if !k.has {
			continue
		}
		f, err := fileFor(baselines, k.kind)
		if err != nil {
			return err
		}
		f.kind = k.kind // no other kind goes into a file that was to be written
		if texts[f.path], err = k.render(f); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		if err := replaceFile(path, texts[path]); err != nil {
			return err
		}
		j.Notes = append(j.Notes, "written: "+path)
	}
	for _, f := range j.Findings {
		if f.Run == nil {
			f.Message += ": kept"
		}
	}
	return nil
}

// fileFor returns the one baseline file that holds the kind, or that is yet to be written.
func fileFor(baselines []*file, k kind) (*file, error) {
	for _, wanted := range []kind{k, unknown} {
		var found []*file
		for _, f := range baselines {
			if f.kind == wanted {
				found = append(found, f)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return nil, fmt.Errorf("%s and %s may both take the %s: name one with -baseline", found[0].path, found[1].path, k)
		}
	}
	return nil, fmt.Errorf("no -baseline file for the %s: name one that holds them, or a new one", k)
}

// renderBench returns the run's lines as go test printed them, package by package, with
// those of the baseline that the run does not have. old may be nil.
func renderBench(old, run *benchResults) []byte {
	if old == nil {
		old = newBenchResults()
	}
	ids := slices.Clone(old.order)
	for _, id := range run.order {
		if old.of[id] == nil {
			ids = append(ids, id)
		}
	}
	lines := map[string][]benchRun{}
	for _, r := range []*benchResults{run, old} {
		for i := range r.runs {
			id := r.runs[i].id()
			if r == run || run.of[id] == nil {
				lines[id] = append(lines[id], r.runs[i])
			}
		}
	}
	facts := run.facts
	if len(facts) == 0 {
		facts = old.facts
	}
	var b bytes.Buffer
	for _, fact := range facts {
		fmt.Fprintln(&b, fact)
	}
	for _, pkg := range packages(ids, lines) {
		if pkg != "" {
			fmt.Fprintln(&b, "pkg: "+pkg)
		}
		for _, id := range ids {
			for _, r := range lines[id] {
				if r.pkg == pkg {
					fmt.Fprintf(&b, "%s%s%s\n", r.name, run.suffix, r.rest)
				}
			}
		}
	}
	return b.Bytes()
}

// packages are those of the benchmarks, in order of appearance but the nameless first:
// lines before any "pkg:" belong to it.
func packages(ids []string, lines map[string][]benchRun) []string {
	all := []string{""}
	for _, id := range ids {
		for _, r := range lines[id] {
			if !slices.Contains(all, r.pkg) {
				all = append(all, r.pkg)
			}
		}
	}
	return all
}

// renderWire returns the run's lines in the order of the baseline, with those that the
// run does not have; where only the baseline was traced, its system calls stay. old may
// be nil.
func renderWire(old, run *wireResults) ([]byte, error) {
	if old == nil {
		old = newWireResults()
	}
	rows := slices.Clone(old.rows)
	for _, row := range run.rows {
		if old.of[row.key] == nil {
			rows = append(rows, row)
		}
	}
	var b bytes.Buffer
	for _, row := range rows {
		lines := row.lines
		if is := run.of[row.key]; is != nil {
			lines = slices.Clone(is.lines)
			if is.calls == nil && row.calls != nil {
				var err error
				if lines[0], err = withCalls(lines[0], row.calls); err != nil {
					return nil, err
				}
			}
		}
		b.WriteString(strings.Join(lines, "\n") + "\n")
	}
	return b.Bytes(), nil
}

// withCalls returns a line with the system calls given, all its other fields kept.
func withCalls(line string, calls map[string]float64) (string, error) {
	var fields map[string]any
	d := json.NewDecoder(strings.NewReader(line))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return "", err
	}
	fields["system_calls"] = calls
	text, err := json.Marshal(fields)
	return string(text), err
}

// replaceFile writes path in one step: readers see the old file or the new one, also
// after a crash. A link stays a link.
func replaceFile(path string, text []byte) (err error) {
	mode := fs.FileMode(0o644)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, writeErr := f.Write(text)
	if err := errors.Join(writeErr, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
