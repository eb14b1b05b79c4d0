package config

import (
	"bytes"
	"sync"

	"go.yaml.in/yaml/v3"
)

const (
	piecesBytesMin = 1 << 20   // smaller files are read in one go
	pieceBytes     = 512 << 10 // aimed at
	pieceWorkers   = 4
)

// piece is a part of a large file that is YAML of its own: some top-level keys, or some
// items of the list under the last of them.
type piece struct {
	start, end int // bytes
	line       int // lines before it
	items      bool
	root       *Node
}

// parseYAMLInPieces reads a large file as many small ones, so that the reader's tree of
// the whole, several times the size of ours, never exists, and every CPU takes part. It
// cuts only before items of lists under top-level keys, by indentation. A cut inside a
// quoted text leaves both sides unreadable and one between an anchor and its alias leaves
// the alias unknown, so any doubt shows as an error. It then returns nil, as for a file
// that is small or holds several documents, and the file is read whole.
func parseYAMLInPieces(f *file) *Node {
	if len(f.data) < piecesBytesMin {
		return nil
	}
	pieces := cutYAML(f.data)
	if len(pieces) < 2 {
		return nil
	}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		next   int
		failed bool
	)
	for range pieceWorkers {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := failed || i >= len(pieces)
				mu.Unlock()
				if stop {
					return
				}
				if !pieces[i].parse(f) {
					mu.Lock()
					failed = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if failed {
		return nil
	}
	return joinPieces(pieces)
}

func (p *piece) parse(f *file) bool {
	var doc yaml.Node
	if err := yaml.Unmarshal(f.data[p.start:p.end], &doc); err != nil {
		return false
	}
	c := converter{file: f, line: p.line}
	p.root = c.document(&doc)
	switch {
	case len(c.faults) > 0:
		return false
	case p.root == nil:
		return !p.items
	case p.items:
		return p.root.Kind == List
	default:
		return p.root.Kind == Map
	}
}

// joinPieces puts the parts together again; nil when they do not fit.
func joinPieces(pieces []piece) *Node {
	var root *Node
	for i := range pieces {
		n := pieces[i].root
		pieces[i].root = nil
		switch {
		case n == nil:
		case pieces[i].items:
			if root == nil || len(root.Entries) == 0 {
				return nil
			}
			last := &root.Entries[len(root.Entries)-1]
			if last.Value.IsNull() {
				last.Value = &Node{Kind: List, file: n.file, Line: n.Line, Col: n.Col}
			}
			if last.Value.Kind != List {
				return nil
			}
			last.Value.Items = append(last.Value.Items, n.Items...)
		case root == nil:
			root = n
		default:
			root.Entries = append(root.Entries, n.Entries...)
		}
	}
	return root
}

// cutYAML finds the pieces, nil when the file is not to be cut.
func cutYAML(data []byte) []piece {
	var pieces []piece
	current := piece{}
	indent := -1    // of the items of the list we are in, -1 outside
	opened := false // the last line with content was a top-level `key:`
	line := 0
	for at := 0; at < len(data); line++ {
		end := at + bytes.IndexByte(data[at:], '\n') + 1
		if end == at {
			end = len(data)
		}
		content := bytes.TrimLeft(data[at:end], " ")
		depth := end - at - len(content)
		content = bytes.TrimRight(content, " \r\n")
		switch {
		case len(content) == 0 || content[0] == '#':
		case depth == 0 && (bytes.HasPrefix(content, []byte("---")) || bytes.HasPrefix(content, []byte("...")) || content[0] == '%'):
			if line > 0 || content[0] == '%' || len(content) > 3 {
				return nil // several documents, directives
			}
		case isItem(content) && (opened || depth == indent):
			if opened {
				indent = depth
			}
			if opened || at-current.start > pieceBytes {
				current.end = at
				pieces = append(pieces, current)
				current = piece{start: at, line: line, items: true}
			}
			opened = false
		case depth == 0:
			if indent >= 0 {
				current.end = at
				pieces = append(pieces, current)
				current = piece{start: at, line: line}
			}
			indent = -1
			opened = isOpenKey(content)
		case depth < indent:
			return nil
		default:
			opened = false
		}
		at = end
	}
	current.end = len(data)
	return append(pieces, current)
}

func isItem(content []byte) bool {
	return content[0] == '-' && (len(content) == 1 || content[1] == ' ')
}

// isOpenKey reports whether the line is a plain key without a value.
func isOpenKey(content []byte) bool {
	key, rest, found := bytes.Cut(content, []byte{':'})
	if !found || len(bytes.TrimLeft(rest, " ")) > 0 && bytes.TrimLeft(rest, " ")[0] != '#' {
		return false
	}
	for _, c := range key {
		if c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(key) > 0
}
