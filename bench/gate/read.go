package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Bounds of what is read.
const (
	fileBytesMax = 256 << 20
	lineBytesMax = 1 << 20 // a log line between benchmarks may be long
)

// kind is what a file holds.
type kind string

const (
	unknown    kind = "nothing yet" // a baseline to be written
	benchmarks kind = "benchmarks"
	wireRows   kind = "rows of bench/wire"
)

// file is one file as read: the figures of its kind, those of the other nil.
type file struct {
	path  string
	kind  kind
	bench *benchResults
	wire  *wireResults
}

// measured is what several files hold together. Neither part is nil.
type measured struct {
	bench *benchResults
	wire  *wireResults
}

// readFiles reads all files and names every one that cannot be read. With mayMiss a file
// that does not exist is one that holds nothing.
func readFiles(paths []string, mayMiss bool) ([]*file, error) {
	files := make([]*file, 0, len(paths))
	faults := make([]error, 0, len(paths))
	for _, path := range paths {
		f, err := readFile(path)
		if mayMiss && errors.Is(err, fs.ErrNotExist) {
			f, err = &file{path: path, kind: unknown}, nil
		}
		files = append(files, f)
		faults = append(faults, err)
	}
	return files, errors.Join(faults...)
}

func readFile(path string) (*file, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, fileBytesMax+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if len(text) > fileBytesMax {
		return nil, fmt.Errorf("%s: more than %d bytes", path, fileBytesMax)
	}
	f, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.path = path
	return f, nil
}

// parse reads a file of either kind. JSON begins with a brace, which no line of go test
// that matters here does.
func parse(text []byte) (*file, error) {
	var err error
	f := &file{}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		f.kind = wireRows
		f.wire, err = parseWire(bytes.NewReader(text))
	} else {
		f.kind = benchmarks
		f.bench, err = parseBench(bytes.NewReader(text))
	}
	return f, err
}

// merge takes the files together.
func merge(files []*file) (*measured, error) {
	m := &measured{bench: newBenchResults(), wire: newWireResults()}
	for _, f := range files {
		if f.bench != nil {
			m.bench.merge(f.bench)
		}
		if f.wire == nil {
			continue
		}
		if err := m.wire.merge(f.wire); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return m, nil
}

// covers returns an error if result holds a kind of which the baseline m has nothing.
func (m *measured) covers(result *measured) error {
	var faults []error
	for _, k := range []struct {
		kind    kind
		has, is int
	}{
		{benchmarks, len(m.bench.order), len(result.bench.order)},
		{wireRows, len(m.wire.rows), len(result.wire.rows)},
	} {
		if k.is > 0 && k.has == 0 {
			faults = append(faults, fmt.Errorf("no baseline holds %s, of which the results have %d: name one with -baseline FILE,FILE, or write it with -update", k.kind, k.is))
		}
	}
	return errors.Join(faults...)
}
