package config

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing wrong in a document, or worth a warning, and where it stands.
type Fault struct {
	File       string
	Line       int    // from 1; 0 when unknown
	Col        int    // from 1; 0 when unknown
	Path       string // like `routes[2] "search": plugins[0] "cors": config.max_age`
	Message    string // lower case, in Kong's words where Kong has some
	Got        string // what stands there instead, like `the string "x"`, "" when the message says it
	Near       string // the known name nearest to the wrong one, "" when none is near
	SourceLine string // text of the line, "" when unknown
	Warning    bool   // the document is usable all the same
	Variable   string // the environment variable the value came from, "" for none
}

// Error is `file:line:col: path: message, got value`, without the parts that are unknown.
func (f Fault) Error() string {
	text := f.text()
	if f.Got != "" {
		text += ", got " + f.Got
	}
	return text + f.hint()
}

// hint is what follows the message: the variable and the nearest name.
func (f Fault) hint() string {
	hint := ""
	if f.Variable != "" {
		hint = "; the value is from environment variable " + f.Variable
	}
	if f.Near != "" {
		hint += `; did you mean "` + f.Near + `"?`
	}
	return hint
}

// text is the place and the message.
func (f Fault) text() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		b.WriteByte(':')
	}
	if f.Line > 0 {
		b.WriteString(strconv.Itoa(f.Line))
		b.WriteByte(':')
		if f.Col > 0 {
			b.WriteString(strconv.Itoa(f.Col))
			b.WriteByte(':')
		}
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if f.Path != "" {
		b.WriteString(f.Path)
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Render is Error followed, where the source is known, by the line and a caret, beside
// which Got then stands.
func (f Fault) Render() string {
	if f.SourceLine == "" {
		return f.Error() + "\n"
	}
	const sourceRunesMax = 160
	src := []rune(strings.ReplaceAll(f.SourceLine, "\t", " "))
	start := 0
	if f.Col > sourceRunesMax {
		start = min(f.Col-sourceRunesMax/2, len(src))
	}
	end := min(len(src), start+sourceRunesMax)
	number := strconv.Itoa(f.Line)
	gutter := strings.Repeat(" ", len(number))
	var b strings.Builder
	b.WriteString(f.text() + f.hint())
	b.WriteString("\n " + number + " | " + string(src[start:end]) + "\n")
	if f.Col > 0 {
		b.WriteString(" " + gutter + " | " + strings.Repeat(" ", max(0, min(f.Col-1-start, end-start))) + "^")
		if f.Got != "" {
			b.WriteString(" got " + f.Got)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Faults are all the faults of a document. As an error it unwraps to each Fault.
type Faults []Fault

// Error is one line a fault.
func (fs Faults) Error() string {
	var b strings.Builder
	for i := range fs {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(fs[i].Error())
	}
	return b.String()
}

// Unwrap lets errors.As and errors.Is look at each Fault.
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i := range fs {
		errs[i] = fs[i]
	}
	return errs
}

// Render shows every fault with its source line and a caret.
func (fs Faults) Render() string {
	var b strings.Builder
	for i := range fs {
		b.WriteString(fs[i].Render())
	}
	return b.String()
}

// Split separates what makes a document unusable from what is only worth a warning.
func (fs Faults) Split() (faults, warnings Faults) {
	for i := range fs {
		if fs[i].Warning {
			warnings = append(warnings, fs[i])
		} else {
			faults = append(faults, fs[i])
		}
	}
	return faults, warnings
}

// Err is nil when no fault is more than a warning, else the Faults that are.
func (fs Faults) Err() error {
	faults, _ := fs.Split()
	if len(faults) == 0 {
		return nil
	}
	return faults
}

// refusal is the error of Read: the faults as Faults, for who asks for those, and the
// warnings beside them.
type refusal struct{ faults, warnings Faults }

func (e *refusal) Error() string { return e.faults.Error() }

// Unwrap gives the faults, then the warnings: see Faults.Split.
func (e *refusal) Unwrap() error { return slices.Concat(e.faults, e.warnings) }

// FaultsOf separates what an error of Read or ReadFiles holds: why there is no document,
// and what would be worth a warning if there were. Both are nil for any other error.
func FaultsOf(err error) (faults, warnings Faults) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.faults, r.warnings
	}
	if fs, ok := errors.AsType[Faults](err); ok {
		return fs.Split()
	}
	return nil, nil
}

// sorted returns the faults in the order of their positions, file by file as given.
func (fs Faults) sorted(files []*file) Faults {
	rank := make(map[string]int, len(files))
	for i, f := range files {
		if _, ok := rank[f.name]; !ok {
			rank[f.name] = i
		}
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(rank[a.File], rank[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return fs
}

// under returns the faults with the path of an entity put before their own.
func (fs Faults) under(path string) Faults {
	for i := range fs {
		if fs[i].Path == "" {
			fs[i].Path = path
		} else {
			fs[i].Path = path + ": " + fs[i].Path
		}
	}
	return fs
}

// below returns the faults with the path of a field put before their own.
func (fs Faults) below(path string) Faults {
	for i := range fs {
		fs[i].Path = joinPath(path, fs[i].Path)
	}
	return fs
}

// distinct leaves out what was found twice, as for defaults many entities share.
func (fs Faults) distinct() Faults {
	type place struct {
		file      string
		line, col int
		message   string
		path      string
	}
	seen := make(map[place]bool, len(fs))
	return slices.DeleteFunc(fs, func(f Fault) bool {
		p := place{f.File, f.Line, f.Col, f.Message, ""}
		if f.Line == 0 {
			p.path = f.Path
		}
		if seen[p] {
			return true
		}
		seen[p] = true
		return false
	})
}

// joinPath puts a field path below another.
func joinPath(parent, child string) string {
	if parent == "" || child == "" || child[0] == '[' {
		return parent + child
	}
	return parent + "." + child
}
