package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	depthMax         = 200       // nesting of a document
	aliasedNodesMax  = 1_000_000 // nodes all aliases of one file may stand for
	documentsInAFile = 1000
)

// parseYAML reads every document of a YAML stream. Empty documents are left out.
func parseYAML(f *file) ([]*Node, Faults) {
	if n := parseYAMLInPieces(f); n != nil {
		return []*Node{n}, nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(f.data))
	var roots []*Node
	c := converter{file: f}
	for range documentsInAFile {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return roots, c.faults
		}
		if err != nil {
			return nil, append(c.faults, f.syntaxFaults(err)...)
		}
		if n := c.document(&doc); n != nil && !n.IsNull() {
			roots = append(roots, n)
		}
	}
	return roots, append(c.faults, Fault{File: f.name, Message: "more than " + strconv.Itoa(documentsInAFile) + " YAML documents in one file"})
}

// converter turns the reader's tree into Nodes.
type converter struct {
	file    *file
	line    int // added to every line: where a piece of the file starts
	faults  Faults
	aliased int // nodes made for aliases
	inAlias int // depth of aliases being followed
	failed  bool
}

func (c *converter) document(doc *yaml.Node) *Node {
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil
	}
	return c.node(doc.Content[0], 0)
}

func (c *converter) fault(y *yaml.Node, message string) {
	if c.failed {
		return
	}
	f := Fault{Message: message}
	f.at(c.file, y.Line+c.line, y.Column)
	c.faults = append(c.faults, f)
}

// fatal reports the fault that ends the conversion: more would be noise.
func (c *converter) fatal(y *yaml.Node, message string) *Node {
	c.fault(y, message)
	c.failed = true
	return &Node{file: c.file, Line: y.Line + c.line, Col: y.Column}
}

func (c *converter) node(y *yaml.Node, depth int) *Node {
	if c.failed {
		return &Node{file: c.file}
	}
	if depth > depthMax {
		return c.fatal(y, "nested more than "+strconv.Itoa(depthMax)+" levels deep")
	}
	if c.inAlias > 0 {
		if c.aliased++; c.aliased > aliasedNodesMax {
			return c.fatal(y, "aliases stand for more than "+strconv.Itoa(aliasedNodesMax)+" values")
		}
	}
	n := &Node{file: c.file, Line: y.Line + c.line, Col: y.Column}
	switch y.Kind {
	case yaml.AliasNode:
		c.inAlias++
		target := c.node(y.Alias, depth+1)
		c.inAlias--
		return target
	case yaml.SequenceNode:
		n.Kind = List
		c.custom(y, "!!seq")
		n.Items = make([]*Node, len(y.Content))
		for i, item := range y.Content {
			n.Items[i] = c.node(item, depth+1)
		}
	case yaml.MappingNode:
		n.Kind = Map
		c.custom(y, "!!map")
		c.entries(n, y, depth)
	default:
		c.scalar(n, y)
	}
	return n
}

// custom refuses tags the document cannot mean anything by.
func (c *converter) custom(y *yaml.Node, usual string) {
	if y.Tag != "" && y.Tag != usual && y.Style&yaml.TaggedStyle != 0 {
		c.fault(y, "unsupported YAML tag "+y.Tag)
	}
}

func (c *converter) entries(n *Node, y *yaml.Node, depth int) {
	n.Entries = make([]Entry, 0, len(y.Content)/2)
	var merges []*Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			c.fault(key, "a key must be a string")
			continue
		}
		v := c.node(value, depth+1)
		if key.Tag == "!!merge" {
			merges = append(merges, v)
			continue
		}
		n.Entries = append(n.Entries, Entry{Key: key.Value, Line: key.Line + c.line, Col: key.Column, Value: v})
	}
	for _, m := range merges {
		c.merge(n, m, y)
	}
}

// merge adds what `<<: *anchor` stands for; keys already present win.
func (c *converter) merge(n, m *Node, y *yaml.Node) {
	switch m.Kind {
	case Map:
		for _, e := range m.Entries {
			if n.Get(e.Key) == nil {
				n.Entries = append(n.Entries, e)
			}
		}
	case List:
		for _, item := range m.Items {
			if item.Kind != Map {
				c.fault(y, "<< expects a map or a list of maps")
				return
			}
			c.merge(n, item, y)
		}
	default:
		c.fault(y, "<< expects a map or a list of maps")
	}
}

func (c *converter) scalar(n *Node, y *yaml.Node) {
	n.Value = y.Value
	n.plain = y.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch y.Tag {
	case "!!str", "!!timestamp", "!!merge":
		n.Type = String
	case "!!int":
		n.Type = Int
	case "!!float":
		n.Type = Float
	case "!!bool":
		n.Type = Bool
	case "!!null":
		n.Type, n.Value = Null, ""
	case "!!binary":
		n.Type = String
		text, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(y.Value), ""))
		if err != nil {
			c.fault(y, "!!binary is not base64")
		}
		n.Value = string(text)
	default:
		c.fault(y, "unsupported YAML tag "+y.Tag)
	}
}
