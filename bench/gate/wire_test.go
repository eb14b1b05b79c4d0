package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wireText renders a row as bench/wire does: rounds with these ratios, "" for no calls.
func wireText(row, floor, calls string, ratios ...float64) string {
	var rounds []string
	for _, r := range ratios {
		rounds = append(rounds, fmt.Sprintf(`{"cpu_us":%g,"ratio":%g,"requests_per_second":51234.5,"p99_ms":2.1}`, 10*r, r))
	}
	if calls != "" {
		calls = `,"system_calls":{` + calls + `}`
	}
	return fmt.Sprintf(`{"suite":"wire","commit":"abc","machine":"2 x CPU","kernel":"Linux 6","go":"go1.26.8","date":"2026-11-27T02:30:00Z",`+
		`"table":"proxied","row":%q,"floor":%q,"rounds":[%s],"resident_bytes":18000000%s}`+"\n", row, floor, strings.Join(rounds, ","), calls)
}

func TestParseWire(t *testing.T) {
	m := measure(t,
		wireText("relay", "relay", "", 1, 1)+"\n"+
			wireText("body-10k/plain", "relay", `"recvfrom":2.01,"sendto":2`, 1.1, 1.2)+
			strings.Replace(wireText("direct", "", "", 0), `"ratio":0,`, "", 1),
		wireText("body-10k/plain", "relay", `"recvfrom":2,"sendto":2`, 1.3))
	if len(m.wire.rows) != 3 {
		t.Fatalf("%d rows, want 3", len(m.wire.rows))
	}
	row := m.wire.of[wireKey{"proxied", "body-10k/plain"}]
	if row == nil || row.rounds != 3 || !slices.Equal(row.ratios, []float64{1.1, 1.2, 1.3}) || row.calls["recvfrom"] != 2 || len(row.lines) != 2 {
		t.Errorf("two files of one row: %+v", row)
	}
	if got := row.key.String(); got != "proxied/body-10k/plain" {
		t.Errorf("named %q", got)
	}
	if row.origin != (origin{"abc", "2 x CPU", "Linux 6", "go1.26.8", "2026-11-27T02:30:00Z"}) {
		t.Errorf("origin %+v", row.origin)
	}
	if !m.wire.rows[0].isFloor() || row.isFloor() {
		t.Error("the floor is not known by its name")
	}
	if direct := m.wire.rows[2]; direct.ratios != nil || direct.calls != nil || direct.rounds != 1 {
		t.Errorf("without floor and trace: %+v", direct)
	}
}

func TestParseWireRefuses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", text, err, want)
		}
	}
	good := wireText("plain", "relay", `"read":1`, 1.5)
	change := func(old, with string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	if _, err := parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	f(good+"{\n", "line 2: unexpected end of JSON")
	f(good+"\nPASS\n", "line 3: invalid character")
	f(`{"Action":"start","Package":"x"}`, `line 1: suite: want "wire", got ""`)
	f(change(`"wire"`, `"load"`), `suite: want "wire", got "load"`)
	f(change(`"proxied"`, `""`), "table: want a name")
	f(change(`"plain"`, `"a\nb"`), `row: want a name of printable characters, got "a\nb"`)
	f(wireText("plain", "relay", ""), "proxied/plain: rounds: none")
	f(change(`"ratio":1.5`, `"ratio":-1.5`), "rounds[0]: ratio: want a number above 0, up to 1e+06, got -1.5")
	f(change(`"ratio":1.5`, `"ratio":1e300`), "rounds[0]: ratio")
	f(change(`"ratio":1.5`, `"ratio":1e999`), "line 1: json")
	f(change(`"cpu_us":15`, `"cpu_us":-15`), "rounds[0]: cpu_us")
	f(change(`"read":1`, `"read":-1`), `system_calls: "read": want a number of calls per request, got -1`)
	f(change(`"read":1`, `"read":"1"`), "line 1: json")
	f(change(`"floor":"relay"`, `"floor":""`), "the row names no floor")
	f(wireText("relay", "relay", "", 1, 1.01), "rounds[1]: ratio: the floor's own is 1, got 1.01")
	f(wireText("plain", "relay", "", 1.5, 0), "1 of 2 have a ratio, want all or none")
	f(good+change(`"abc"`, `"def"`), `line 2: proxied/plain: measured at commit "abc" and at "def"`)
	f(good+change(`"floor":"relay"`, `"floor":"nginx"`), `against the floor "relay" and against another`)
	f(good+wireText("plain", "relay", "", 0), `against another or none`)
	f(wireText("plain", "relay", "", twos(roundsMax+1)...), "more than 2000 rounds")
}

// twos returns n ratios of 2.
func twos(n int) []float64 { return slices.Repeat([]float64{2}, n) }
