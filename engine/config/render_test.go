package config

import (
	"strings"
	"testing"
)

// FuzzRender makes sure any text survives being written, as key, value and list item.
func FuzzRender(f *testing.F) {
	for _, s := range []string{
		"", "a", "- a", "a: b", "a #b", "# a", "yes", "null", "~", "0x1", "1e5", "a\nb", "a\nb\n", "\na\n", " a\nb", "a\n\n", "a\n \nb", "a\r\nb", "\t", "a\tb\nc",
		"\u2028", "\ufeff", "\u0085", "\U0001f600\nx", "'", "\"", "\\", "a:", "a:b", "a  b", "---", "--- \na", "...", "%a", "@a", "`a", "!a", "&a", "*a", "|", ">", "{a}", "[a]", "a,b", "?", "<<", "=", strings.Repeat("k", 2000),
		"\x00", "\x7f\n\x01", "2001-01-01", "12:30:45",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := stringNode(string([]rune(s))) // what is read is UTF-8
		list := &Node{Kind: List, Items: []*Node{text, {Kind: List, Items: []*Node{text, text}}, {Kind: Map, Entries: []Entry{{Key: text.Value, Value: text}}}}}
		n := &Node{Kind: Map, Entries: []Entry{{Key: "k" + text.Value, Value: text}, {Key: "list", Value: list}, {Key: "map", Value: &Node{Kind: Map, Entries: []Entry{{Key: text.Value, Value: list}}}}}}
		for i, source := range []Source{
			{Name: "n.yaml", Data: n.AppendYAML(nil)}, {Name: "n.json", Data: n.AppendJSON(nil)}, {Name: "json as n.yaml", Data: n.AppendJSON(nil), Format: "yaml"},
		} {
			if i == 2 && len(appendQuoted(nil, text.Value)) > 1000 {
				continue // YAML's limit for keys in flow style
			}
			roots, err := Parse(source, false)
			if err != nil || len(roots) != 1 || !roots[0].Equal(n) {
				t.Fatalf("%s: %v\n%q", source.Name, err, source.Data)
			}
		}
	})
}
