package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

type inner struct {
	Host string `json:"host"`
	Port int    `json:"port" min:"1" max:"65535"`
}

func (i *inner) SetDefaults() { i.Port = 6379 }

type settings struct {
	Text     string              `json:"text" enum:"a,b" alias:"old_text"`
	Count    int                 `json:"count" gt:"0"`
	Small    int8                `json:"small"`
	Unsigned uint16              `json:"unsigned"`
	Ratio    float64             `json:"ratio" min:"0" max:"1"`
	On       bool                `json:"on"`
	List     []string            `json:"list" len:"1"`
	Numbers  []int               `json:"numbers" min:"100" max:"599"`
	Map      map[string]int      `json:"map"`
	Lists    map[string][]string `json:"lists"`
	Redis    inner               `json:"redis" flat:"redis_"`
	Maybe    *int                `json:"maybe" min:"1"`
	Nested   *inner              `json:"nested"`
	Many     []inner             `json:"many"`
	Node     *Node               `json:"node"`
	Any      any                 `json:"any"`
	Prefix   netip.Prefix        `json:"prefix"`
	Needed   string              `json:"needed" required:"true"`
	Hidden   string              `json:"-"`
}

func (s *settings) Check(r *Reporter) {
	if s.Text == "b" && s.Count != 7 {
		r.Faultf("count", "must be 7 with text %s", s.Text)
	}
	if len(s.List) > 2 {
		r.Faultf("list[2]", "too many")
	}
	if s.On && r.Has("ratio") {
		r.Warnf("ratio", "ignored")
	}
}

func defaultSettings() settings {
	return settings{Text: "a", Count: 1, List: []string{"x"}, Redis: inner{Port: 6379}}
}

func parseOne(t *testing.T, text string, strict bool) *Node {
	t.Helper()
	roots, err := Parse(Source{Name: "t.yaml", Data: []byte(text)}, strict)
	if err != nil || len(roots) != 1 {
		t.Fatalf("%q: %d roots, %v", text, len(roots), err)
	}
	return roots[0]
}

// TestDecodeFaults holds one case for every message of the decoder.
func TestDecodeFaults(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		into := defaultSettings()
		got := messages(Decode(parseOne(t, "{needed: n, "+text+"}", true), &into))
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
	f("txt: a", `1:13: txt: unknown field; did you mean "text"?`)
	f("zzz: a", `1:13: zzz: unknown field`)
	f("Hidden: a", `1:13: Hidden: unknown field`)
	f("text: c", `1:19: text: expected one of: a, b`)
	f("text: 5", `1:19: text: expected a string; write "5" in quotes`)
	f("text: [a]", `1:19: text: expected a string, got a list`)
	f("old_text: b, count: 7", `1:13: old_text: older name of text`)
	f("old_text: b, text: a", `1:13: old_text: both old_text and text are set, to different values`)
	f("old_text: a, text: a", ``)
	f("count: 0", `1:20: count: value must be greater than 0`)
	f("count: 1.5", `1:20: count: expected an integer, got the number 1.5`)
	f("count: 2.0", ``)
	f("count: x", `1:20: count: expected an integer, got the string "x"`)
	f("small: 200", `1:20: small: value is out of range`)
	f("unsigned: -1", `1:23: unsigned: value is out of range`)
	f("ratio: 1.5", `1:20: ratio: value should be between 0 and 1`)
	f("ratio: .inf", `1:20: ratio: expected a number, got the number .inf`)
	f("ratio: '1'", `1:20: ratio: expected a number, got the string "1"; remove the quotes`)
	f("on: 1", `1:17: on: expected a boolean, got the number 1`)
	f("on: 'on'", `1:17: on: expected a boolean, got the string "on"; remove the quotes`)
	f("on: yes, ratio: 1", `1:29: ratio: ignored`)
	f("list: x", `1:19: list: expected an array, got the string "x"`)
	f("list: []", `1:19: list: length must be at least 1`)
	f("list: [a, null]", `1:23: list[1]: expected a string, got null`)
	f("list: [a, b, c]", `1:26: list[2]: too many`)
	f("numbers: [100, 700]", `1:28: numbers[1]: value should be between 100 and 599`)
	f("map: [1]", `1:18: map: expected a map, got a list`)
	f("map: {a: b}", `1:22: map.a: expected an integer, got the string "b"`)
	f("map: []", ``)
	f("lists: {a: b}", `1:24: lists.a: expected an array, got the string "b"`)
	f("redis: 5", `1:20: redis: expected a record, got the number 5`)
	f("redis: {prt: 5}", `1:21: redis.prt: unknown field; did you mean "port"?`)
	f("redis_port: 99999", `1:13: redis_port: older name of redis.port`+"\n"+`1:25: redis_port: value should be between 1 and 65535`)
	f("redis_port: 5, redis: {port: 6}", `1:13: redis_port: both redis_port and redis.port are set, to different values`)
	f("redis_prt: 5", `1:13: redis_prt: unknown field`)
	f("maybe: 0", `1:20: maybe: value should be at least 1`)
	f("many: [{port: 0}, null]", `1:27: many[0].port: value should be between 1 and 65535`+"\n"+`1:31: many[1]: expected a record, got null`)
	f("prefix: 10.0.0.0/33", `1:21: prefix: invalid value: netip.ParsePrefix("10.0.0.0/33"): prefix length out of range`)
	f("prefix: 5", `1:21: prefix: invalid value: netip.ParsePrefix("5"): no '/'`)
	f("text: b, count: 3", `1:29: count: must be 7 with text b`)
	f("text: b, count: 0", `1:29: count: value must be greater than 0`) // no Check after a fault

	into := defaultSettings()
	if got := messages(Decode(parseOne(t, "text: a", true), &into)); got != "1:1: needed: required field missing" {
		t.Error(got)
	}
	if got := messages(Decode(nil, &into)); got != "needed: required field missing" {
		t.Error(got)
	}
	if got := messages(Decode(parseOne(t, "[1]", true), &into)); !strings.Contains(got, "expected a record") {
		t.Error(got)
	}
}

// TestDecodeValues checks what ends up in the struct, and that defaults are not shared.
func TestDecodeValues(t *testing.T) {
	defaults := defaultSettings()
	into := defaults
	fs := Decode(parseOne(t, `
needed: n
text: null
count: 1_000
ratio: 1
unsigned: 0x10
list: [a]
map: {k: 1}
lists: {k: [v]}
redis_host: h
maybe: 3
nested: {host: n}
many: [{host: m}]
node: {a: [1]}
any: {a: [1, x, true, null, 1.5]}
prefix: 10.0.0.0/8
`, true), &into)
	if fs.Err() != nil {
		t.Fatal(fs)
	}
	three := 3
	want := settings{
		Needed: "n", Text: "a", Count: 1000, Ratio: 1, Unsigned: 16, List: []string{"a"}, Map: map[string]int{"k": 1},
		Lists: map[string][]string{"k": {"v"}}, Redis: inner{Host: "h", Port: 6379}, Maybe: &three,
		Nested: &inner{Host: "n", Port: 6379}, Many: []inner{{Host: "m", Port: 6379}}, Node: into.Node,
		Any:    map[string]any{"a": []any{int64(1), "x", true, nil, 1.5}},
		Prefix: netip.MustParsePrefix("10.0.0.0/8"),
	}
	if !reflect.DeepEqual(into, want) {
		t.Errorf("got  %+v\nwant %+v", into, want)
	}
	if string(into.Node.AppendJSON(nil)) != `{"a":[1]}` {
		t.Errorf("node is %s", into.Node.AppendJSON(nil))
	}
	if defaults.List[0] != "x" {
		t.Error("decoding wrote into the defaults")
	}
}

// TestDecodeFriendly checks the spellings that only strict reading refuses.
func TestDecodeFriendly(t *testing.T) {
	var into settings
	fs := Decode(parseOne(t, "{needed: yes, list: a, many: {host: x}, count: 010, map: []}", false), &into)
	if want := "1:21: list: expected an array; read as a list of one\n1:30: many: expected an array; read as a list of one\n1:48: count: a leading zero makes 010 octal: read as 8"; messages(fs) != want {
		t.Errorf("got %s", messages(fs))
	}
	if into.Needed != "yes" || into.Count != 8 || len(into.List) != 1 || len(into.Many) != 1 || into.Many[0].Port != 6379 {
		t.Errorf("got %+v", into)
	}
}

// TestNodeLookup checks paths, also through keys that hold dots.
func TestNodeLookup(t *testing.T) {
	n := parseOne(t, "a: {b.c: [x, {d: 1}]}\nservice.name: s\ne: [[1, 2]]", false)
	f := func(path, want string) {
		t.Helper()
		got := "nil"
		if v := n.Lookup(path); v != nil {
			got = string(v.AppendJSON(nil))
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	f("a.b.c[1].d", "1")
	f("a.b.c.0", `"x"`)
	f("service.name", `"s"`)
	f("e[0][1]", "2")
	f("e[0][2]", "nil")
	f("a.x", "nil")
	f("a.b.c[", "nil")
	f("", string(n.AppendJSON(nil)))
}
