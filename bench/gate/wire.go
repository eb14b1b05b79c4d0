package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode"
)

// Bounds of what a line may say: beyond them it is not a measurement.
const (
	roundsMax = 2000 // of one row: the rank test compares each with each
	ratioMax  = 1e6  // and its inverse
	callsMax  = 1e9
)

// wireLine is one line of bench/wire: one row of a table. Fields that nothing here
// judges are left out.
type wireLine struct {
	Suite string `json:"suite"`
	origin
	Table       string             `json:"table"`
	Row         string             `json:"row"`
	Floor       string             `json:"floor"` // "": the row is compared with none
	Rounds      []wireRound        `json:"rounds"`
	SystemCalls map[string]float64 `json:"system_calls"` // per request; nil: not traced
}

// origin says what was measured and where.
type origin struct {
	Commit  string `json:"commit"`
	Machine string `json:"machine"`
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Date    string `json:"date"`
}

type wireRound struct {
	CPUMicros float64 `json:"cpu_us"` // per request
	Ratio     float64 `json:"ratio"`  // to the floor's of the same round; 0: the floor was not measured
}

// wireKey is how a row is known. Both names may hold a slash.
type wireKey struct{ table, row string }

// String names the row: alone where the row already says which table it is of.
func (k wireKey) String() string {
	if strings.HasPrefix(k.row, k.table+"/") {
		return k.row
	}
	return k.table + "/" + k.row
}

// wireRow is what the lines of one row say together.
type wireRow struct {
	key    wireKey
	origin origin
	floor  string
	rounds int
	ratios []float64          // one a round, or none: the floor was not measured
	calls  map[string]float64 // nil: not traced
	lines  []string           // as read
}

// isFloor says that the row is the one the others are divided by.
func (r *wireRow) isFloor() bool { return r.key.row == r.floor }

// wireResults are the rows of one or several files.
type wireResults struct {
	rows []*wireRow // in order of appearance
	of   map[wireKey]*wireRow
}

func newWireResults() *wireResults { return &wireResults{of: map[wireKey]*wireRow{}} }

// parseWire reads JSON lines. Every line that is not empty must be a row.
func parseWire(r io.Reader) (*wireResults, error) {
	res := newWireResults()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineBytesMax)
	number := 0
	for lines.Scan() {
		number++
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		row, err := parseWireLine(text)
		if err == nil {
			err = res.add(row)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	}
	if len(res.rows) == 0 {
		return nil, errors.New("no row in it")
	}
	return res, nil
}

// parseWireLine reads and checks one line.
func parseWireLine(text string) (*wireRow, error) {
	var l wireLine
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return nil, err
	}
	if l.Suite != "wire" {
		return nil, fmt.Errorf("suite: want \"wire\", got %q", l.Suite)
	}
	row := &wireRow{
		key: wireKey{l.Table, l.Row}, origin: l.origin, floor: l.Floor,
		rounds: len(l.Rounds), calls: l.SystemCalls, lines: []string{text},
	}
	for _, n := range []struct{ field, value string }{{"table", l.Table}, {"row", l.Row}} {
		if n.value == "" || strings.ContainsFunc(n.value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return nil, fmt.Errorf("%s: want a name of printable characters, got %q", n.field, n.value)
		}
	}
	if len(l.Rounds) == 0 {
		return nil, fmt.Errorf("%s: rounds: none", row.key)
	}
	if err := row.takeRatios(l.Rounds); err != nil {
		return nil, fmt.Errorf("%s: %w", row.key, err)
	}
	for name, n := range l.SystemCalls {
		if n < 0 || n > callsMax {
			return nil, fmt.Errorf("%s: system_calls: %q: want a number of calls per request, got %g", row.key, name, n)
		}
	}
	return row, nil
}

// takeRatios checks the rounds and keeps their ratios.
func (r *wireRow) takeRatios(rounds []wireRound) error {
	for i, x := range rounds {
		switch {
		case x.CPUMicros < 0:
			return fmt.Errorf("rounds[%d]: cpu_us: want microseconds per request, got %g", i, x.CPUMicros)
		case x.Ratio != 0 && !(x.Ratio >= 1/ratioMax && x.Ratio <= ratioMax):
			return fmt.Errorf("rounds[%d]: ratio: want a number above 0, up to %g, got %g", i, ratioMax, x.Ratio)
		case x.Ratio > 0 && r.floor == "":
			return fmt.Errorf("rounds[%d]: ratio: %g, but the row names no floor", i, x.Ratio)
		case x.Ratio > 0 && r.isFloor() && math.Abs(x.Ratio-1) > 1e-6:
			return fmt.Errorf("rounds[%d]: ratio: the floor's own is 1, got %g", i, x.Ratio)
		case x.Ratio > 0:
			r.ratios = append(r.ratios, x.Ratio)
		}
	}
	if n := len(r.ratios); n != 0 && n != len(rounds) {
		return fmt.Errorf("rounds: %d of %d have a ratio, want all or none", n, len(rounds))
	}
	return nil
}

// add takes one row into what is known: further rounds of the same commit against the
// same floor, and of the counts of system calls the one with fewer.
func (w *wireResults) add(row *wireRow) error {
	known := w.of[row.key]
	switch {
	case known == nil:
		known = &wireRow{key: row.key, origin: row.origin, floor: row.floor}
		w.rows = append(w.rows, known)
		w.of[row.key] = known
	case known.origin.Commit != row.origin.Commit:
		return fmt.Errorf("%s: measured at commit %q and at %q: rounds of different commits are no one measurement", row.key, known.origin.Commit, row.origin.Commit)
	case known.floor != row.floor || (known.ratios == nil) != (row.ratios == nil):
		return fmt.Errorf("%s: measured against the floor %q and against another or none (%q)", row.key, known.floor, row.floor)
	}
	if known.rounds+row.rounds > roundsMax {
		return fmt.Errorf("%s: more than %d rounds", row.key, roundsMax)
	}
	known.rounds += row.rounds
	known.ratios = append(known.ratios, row.ratios...)
	known.lines = append(known.lines, row.lines...)
	if known.calls == nil || (row.calls != nil && total(row.calls) < total(known.calls)) {
		known.calls = row.calls
	}
	return nil
}

// merge adds what another file holds.
func (w *wireResults) merge(other *wireResults) error {
	for _, row := range other.rows {
		if err := w.add(row); err != nil {
			return err
		}
	}
	return nil
}
