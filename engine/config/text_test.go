package config

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
)

func parseFaults(name, text string) string {
	_, err := Parse(Source{Name: name, Data: []byte(text)}, false)
	var fs Faults
	if err == nil || !errors.As(err, &fs) {
		return ""
	}
	return fs.Error()
}

// TestSyntaxFaults checks that what cannot be parsed is refused with a position.
func TestSyntaxFaults(t *testing.T) {
	f := func(name, text, want string) {
		t.Helper()
		if got := parseFaults(name, text); got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", text, got, want)
		}
	}
	f("j.json", "{\"a\": 1,\n  b: 2}", `j.json:2:3: expected a key in double quotes`)
	f("j.json", "{\"a\": 1", `j.json:1:8: expected , or }`)
	f("j.json", "[1 2]", `j.json:1:4: expected , or ]`)
	f("j.json", "{\"a\" 1}", `j.json:1:6: expected : after the key`)
	f("j.json", "{\"é\": tru}", `j.json:1:7: expected true`)
	f("j.json", "{} x", `j.json:1:4: unexpected 'x' after the value`)
	f("j.json", "", `j.json:1:1: unexpected end of JSON`)
	f("j.json", "é", `j.json:1:1: unexpected 'é'`)
	f("j.json", "01", `j.json:1:3: malformed number`)
	f("j.json", "1.", `j.json:1:3: malformed number`)
	f("j.json", "1e", `j.json:1:3: malformed number`)
	f("j.json", "\"a", `j.json:1:3: text without closing quote`)
	f("j.json", "\"a\\n", `j.json:1:5: text without closing quote`)
	f("j.json", "\"a\nb\"", `j.json:1:3: control character in text`)
	f("j.json", `"\x"`, `j.json:1:2: unknown escape \x`)
	f("j.json", `"\u12"`, `j.json:1:2: malformed \u escape`)
	f("j.json", "\"\xff\"", `j.json:1:4: text is not UTF-8`)
	f("j.json", strings.Repeat("[", 300), `j.json:1:202: nested more than 200 levels deep`)
	f("j.json", `{"a": 1, "b": {"a": 1, "a": 2}}`, `j.json:1:24: b.a: duplicate key "a", first on line 1`)
	f("y.yaml", "a: [1\nb: 2\n", `y.yaml:1: did not find expected ',' or ']'`)
	f("y.yaml", "a: *x\n", `y.yaml: unknown anchor 'x' referenced`)
	f("y.yaml", "a: !foo x\n", `y.yaml:1:4: unsupported YAML tag !foo`)
	f("y.yaml", "a: !!set {x}\n", `y.yaml:1:4: unsupported YAML tag !!set`)
	f("y.yaml", "? [a]\n: b\n", `y.yaml:1:3: a key must be a string`)
	f("y.yaml", "a: !!binary '!'\n", `y.yaml:1:4: !!binary is not base64`)
	f("y.yaml", "<<: 5\n", `y.yaml:1:1: << expects a map or a list of maps`)
	f("y.yaml", strings.Repeat("[", 300)+strings.Repeat("]", 300), `y.yaml:1:202: nested more than 200 levels deep`)
	f("y.yaml", "&a [*a]", `y.yaml:1:5: nested more than 200 levels deep`)
	f("y.yaml", "a: 1\nb: 2\na: 3", `y.yaml:3:1: a: duplicate key "a", first on line 1`)
	f("y.yaml", strings.Repeat("---\na: 1\n", 1001), `y.yaml: more than 1000 YAML documents in one file`)
	f("body", "{\"a\": 1", `body:1:8: expected , or }`)
	f("body", "a: 1", ``)

	_, err := Parse(Source{Name: "x", Format: "toml"}, false)
	if err == nil || err.Error() != `x: unknown format "toml"; expected one of: yaml, json` {
		t.Error(err)
	}
}

// TestAliasBomb makes sure aliases cannot be used to fill memory.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		prev := "*a" + string(rune('0'+i-1))
		if i > 9 {
			prev = "*a" + string(rune('a'+i-11))
		}
		name := string(rune('0' + i))
		if i > 9 {
			name = string(rune('a' + i - 10))
		}
		if i == 10 {
			prev = "*a9"
		}
		b.WriteString("a" + name + ": &a" + name + " [" + strings.TrimSuffix(strings.Repeat(prev+", ", 10), ", ") + "]\n")
	}
	if got := parseFaults("y.yaml", b.String()); !strings.Contains(got, "aliases stand for more than 1000000 values") {
		t.Error(got)
	}
}

// TestPieces compares reading a large file in pieces with reading it whole.
func TestPieces(t *testing.T) {
	f := func(text string, cut bool) {
		t.Helper()
		whole := &file{name: "w", data: []byte(text)}
		pieces := &file{name: "w", data: []byte(text)}
		n := parseYAMLInPieces(pieces)
		if (n != nil) != cut {
			t.Errorf("cut: %v, want %v", n != nil, cut)
		}
		if n == nil {
			return
		}
		whole.data = append([]byte("--- \n"), whole.data...) // never cut
		roots, fs := parseYAML(whole)
		if fs != nil || len(roots) != 1 || !roots[0].Equal(n) {
			t.Fatalf("the pieces differ from the whole: %v", fs)
		}
		a, b := positions(roots[0], nil), positions(n, nil)
		for i := range a {
			a[i] -= 1_000_000 // one line more
		}
		if !slices.Equal(a, b) {
			t.Error("positions differ")
		}
	}
	items := func(item string) string { return strings.Repeat(item, 2_000_000/len(item)) }
	f("_format_version: \"3.0\"\nconsumers:\n"+items("- username: x\n  tags:\n  - a\n  # note\n\n  custom_id: |\n    text\n    - more\n"), true)
	f("consumers: # here\n"+items("  - {username: x}\n")+"routes:\n"+items("    - name: r\n")+"services: []\n", true)
	f("consumers:\n"+items("- username: \"x\n\n- y\"\n"), false)            // an item mark inside quotes
	f("consumers:\n- &a {b: c}\n"+items("- b: *a\n"), false)                // anchor in another piece
	f("consumers:\n"+items("- username: x\n")+"---\nservices: []\n", false) // two documents
	f("consumers:\n"+items("  - username: x\n")+" y: 1\n", false)           // not YAML
	f("consumers:\n- username: x\n", false)                                 // small
}

// positions are line and column of every node, in order, as one number each.
func positions(n *Node, dst []int) []int {
	if n.Kind == Scalar { // maps and lists that were joined start elsewhere
		dst = append(dst, n.Line*1_000_000+n.Col)
	}
	for _, i := range n.Items {
		dst = positions(i, dst)
	}
	for _, e := range n.Entries {
		dst = positions(e.Value, dst)
	}
	return dst
}

// TestRender checks the source line and the caret, and that long lines are cut.
func TestRender(t *testing.T) {
	_, fs := readText(t, "services:\n\t\n- {name: s, host: h, x: 1}", Options{})
	if len(fs) == 0 {
		t.Fatal("no fault")
	}
	_, fs = readText(t, "services:\n- {name: s, host: h, retris: 1}", Options{})
	want := "t.yaml:2:22: services[0] \"s\": retris: unknown field; did you mean \"retries\"?\n" +
		" 2 | - {name: s, host: h, retris: 1}\n" +
		"   |                      ^\n"
	if got := fs.Render(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	long := Fault{File: "f", Line: 1, Col: 1000, Message: "m", SourceLine: strings.Repeat("a", 2000)}
	lines := strings.Split(long.Render(), "\n")
	if len(lines[1]) > 200 || len(lines[2]) > len(lines[1]) {
		t.Errorf("rendered as %q", lines)
	}
	var fault Fault
	if !errors.As(fs.Err(), &fault) || fault.Line != 2 {
		t.Error("a fault is not found in Faults")
	}
	if (Fault{Message: "m"}).Error() != "m" || (Fault{File: "f", Message: "m"}).Error() != "f: m" {
		t.Error("unknown positions are printed")
	}
}

// TestNearest checks suggestions.
func TestNearest(t *testing.T) {
	known := []string{"rate-limiting", "response-ratelimiting", "cors", "key-auth", "jwt"}
	f := func(name, want string) {
		t.Helper()
		if got := Nearest(name, known); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f("rate-limitting", "rate-limiting")
	f("rate_limiting", "rate-limiting")
	f("corse", "cors")
	f("CORS", "cors")
	f("ekyauth", "key-auth")
	f("prometheus", "")
	f("x", "")
	f("", "")
	f(strings.Repeat("a", 100), "")
}

// TestJSONAgreesWithStandard reads the same values as encoding/json.
func TestJSONAgreesWithStandard(t *testing.T) {
	for _, text := range []string{
		`{"a": [1, -2.5e3, true, false, null, "x"], "b": {}}`, `"\u00e9\ud83d\ude00\ud800 \"\\\/\b\f\n\r\t"`, "[]", "  0 ", `""`,
	} {
		n, fs := parseJSON(&file{name: "j", data: []byte(text)})
		if fs != nil {
			t.Errorf("%s: %v", text, fs)
			continue
		}
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		a, err1 := json.Marshal(n.Any())
		b, err2 := json.Marshal(want)
		if err1 != nil || err2 != nil || string(a) != string(b) {
			t.Errorf("%s: got %s, want %s", text, a, b)
		}
	}
}
