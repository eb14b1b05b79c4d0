package config

import (
	"crypto/md5" // identifies a text, as in Kong; protects nothing
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Source is one file, request body or standard input to read.
type Source struct {
	Name   string // for messages
	Data   []byte // not changed; kept until no message can need it
	Format string // "yaml", "json", or "" to tell by the extension of Name, else by trying JSON first
}

// Options say how sources are read. The zero value reads one document in friendly mode
// with the environment of the process.
type Options struct {
	Strict   bool     // Kong's own rules, none of the looser spellings
	Overlays []Source // merged over the document, field by field, in order
	Env      func(name string) (string, bool)
	Environ  func() []string // names to look through for misspelt properties, as os.Environ; nil with Env for none
	Catalog  Catalog
}

// dataBytesKept is how long a source may be for its text to be kept with the nodes, so
// that faults found after Read can still show the line.
const dataBytesKept = 1 << 20

// Read merges the sources into one Document: entities of several sources are put one
// after another, overlays are merged over entities of the same name. On error it wraps
// Faults with every fault at once, and the Document is nil; FaultsOf gives the warnings
// besides. What is only worth a warning is else in Document.Warnings.
func Read(sources []Source, o Options) (*Document, error) { return read(sources, o, nil) }

// read is Read where some files could not be opened.
func read(sources []Source, o Options, unopened Faults) (*Document, error) {
	r := &reader{faults: unopened, unread: len(unopened) > 0, doc: &Document{Transform: true, Gateway: NewGateway()}, sum: md5.New()}
	r.options = r.watched(o)
	for _, s := range sources {
		r.source(s, false)
	}
	for _, s := range o.Overlays {
		r.source(s, true)
	}
	r.entities()
	faults, warnings := r.faults.sorted(r.files).distinct().Split()
	r.release()
	if len(faults) > 0 {
		return nil, &refusal{faults, warnings}
	}
	r.doc.Warnings = warnings
	r.doc.Hash = strings.Repeat("0", 2*md5.Size)
	if len(sources) > 0 {
		r.doc.Hash = hex.EncodeToString(r.sum.Sum(nil))
	}
	return r.doc, nil
}

// ReadFiles is Read for files; "-" is standard input.
func ReadFiles(paths, overlays []string, o Options) (*Document, error) {
	sources, faults := readSources(paths)
	over, more := readSources(overlays)
	o.Overlays = append(over, o.Overlays...)
	return read(sources, o, append(faults, more...))
}

func readSources(paths []string) ([]Source, Faults) {
	var (
		sources []Source
		faults  Faults
	)
	for _, p := range paths {
		name, path := p, p
		if p == "-" {
			name, path = "<stdin>", "/dev/stdin"
		}
		data, err := os.ReadFile(path)
		if err != nil {
			faults = append(faults, Fault{File: name, Message: unwrapPath(err)})
			continue
		}
		sources = append(sources, Source{Name: name, Data: data})
	}
	return sources, faults
}

// unwrapPath is the text of an error without the path, which stands before it already.
func unwrapPath(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// Parse reads a source into its documents, without knowing what they mean. Faults are of
// syntax, limits and duplicate keys.
func Parse(s Source, strict bool) ([]*Node, error) {
	f := &file{name: s.Name, data: s.Data, strict: strict}
	roots, faults := f.parse(s.Format)
	for _, n := range roots {
		faults = append(faults, duplicates(n)...)
	}
	return roots, faults.Err()
}

// parse reads a file by its format.
func (f *file) parse(format string) ([]*Node, Faults) {
	if format == "" {
		switch strings.ToLower(filepath.Ext(f.name)) {
		case ".yaml", ".yml":
			format = "yaml"
		case ".json":
			format = "json"
		}
	}
	switch format {
	case "yaml":
		return parseYAML(f)
	case "json":
		n, faults := parseJSON(f)
		if n == nil {
			return nil, faults
		}
		return []*Node{n}, faults
	case "":
		n, faults := parseJSON(f)
		if n != nil {
			return []*Node{n}, nil
		}
		roots, yamlFaults := parseYAML(f)
		if len(yamlFaults) > 0 && looksLikeJSON(f.data) {
			return nil, faults
		}
		return roots, yamlFaults
	default:
		return nil, Faults{{File: f.name, Message: fmt.Sprintf("unknown format %q; expected one of: yaml, json", format)}}
	}
}

func looksLikeJSON(data []byte) bool {
	text := strings.TrimLeft(string(data[:min(len(data), 256)]), " \t\r\n")
	return strings.HasPrefix(text, "{")
}

// duplicates finds keys written twice, naming both lines.
func duplicates(n *Node) Faults {
	if n == nil || n.Kind == Scalar {
		return nil
	}
	faults := duplicateKeys(n)
	for i, item := range n.Items {
		if more := duplicates(item); more != nil {
			faults = append(faults, more.below("["+strconv.Itoa(i)+"]")...)
		}
	}
	for i := range n.Entries {
		if more := duplicates(n.Entries[i].Value); more != nil {
			faults = append(faults, more.below(n.Entries[i].Key)...)
		}
	}
	return faults
}

func duplicateKeys(n *Node) Faults {
	const entriesFew = 16
	var faults Faults
	report := func(first, second *Entry) {
		faults = append(faults, n.keyFault(second, second.Key,
			fmt.Sprintf("duplicate key %q, first on line %d", second.Key, first.Line)))
	}
	if len(n.Entries) <= entriesFew { // Fast path: entities are small, and many.
		for i := 1; i < len(n.Entries); i++ {
			for j := range i {
				if n.Entries[j].Key == n.Entries[i].Key {
					report(&n.Entries[j], &n.Entries[i])
					break
				}
			}
		}
		return faults
	}
	seen := make(map[string]*Entry, len(n.Entries))
	for i := range n.Entries {
		e := &n.Entries[i]
		if first, ok := seen[e.Key]; ok {
			report(first, e)
			continue
		}
		seen[e.Key] = e
	}
	return faults
}
