package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	adminCall     = regexp.MustCompile(`(?m)^[ \t]*(?:GET|POST|PUT|PATCH|DELETE)[ \t]+/\S*[ \t]*\r?$`)
	tabIndent     = regexp.MustCompile(`(?m)^[ -]*\t[ \t]*[^ \t\r\n#]`)
)

// syntaxFaults turns an error of the YAML reader into faults with positions. Requests to
// the Admin API pasted between the YAML are named as what they are.
func (f *file) syntaxFaults(err error) Faults {
	calls := adminCall.FindAllIndex(f.data, -1)
	faults := make(Faults, 0, len(calls)+1)
	for _, at := range calls {
		text := f.data[at[0]:at[1]]
		start := at[0] + len(text) - len(bytes.TrimLeft(text, " \t"))
		fault := Fault{Message: "not YAML but a request to the Admin API: " + strings.TrimSpace(string(text))}
		line, col := f.place(start)
		fault.at(f, line, col)
		faults = append(faults, fault)
	}
	if len(faults) > 0 {
		return faults
	}
	return Faults{f.syntaxFault(err)}
}

// place is the line and column of a byte.
func (f *file) place(at int) (line, col int) {
	return 1 + bytes.Count(f.data[:at], []byte{'\n'}), at - bytes.LastIndexByte(f.data[:at], '\n')
}

// syntaxFault explains the mistakes people make most. The reader itself gives the line
// where the list or map around the mistake starts.
func (f *file) syntaxFault(err error) Fault {
	fault := Fault{Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	line := 0
	if m := yamlErrorLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits by the pattern; anything else means unknown
		fault.Message = m[2]
	}
	switch {
	case strings.Contains(fault.Message, "found character that cannot start any token"),
		strings.Contains(fault.Message, "found a tab character"):
		if at := tabIndent.FindIndex(f.data); at != nil {
			tab := at[0] + bytes.IndexByte(f.data[at[0]:], '\t')
			fault.Message = "a tab cannot indent: use spaces"
			l, c := f.place(tab)
			fault.at(f, l, c)
			return fault
		}
	case strings.Contains(fault.Message, "unexpected end of stream"):
		if l, c := f.openQuote(0); l > 0 {
			fault.Message = "a quote is not closed"
			fault.at(f, l, c)
			return fault
		}
	case strings.Contains(fault.Message, "did not find expected key"),
		strings.Contains(fault.Message, "did not find expected '-' indicator"):
		if found := f.failingLine(err); found > 0 {
			line = found
		}
		if l, c := f.openQuote(line); l > 0 {
			fault.Message = "a quote is not closed"
			fault.at(f, l, c)
			return fault
		}
		if f.textAfterQuote(line) {
			fault.Message = "text after the closing quote"
		} else {
			fault.Message += ": the indentation of this line differs from that of its siblings"
		}
	case strings.Contains(fault.Message, "mapping values are not allowed"):
		if found := f.failingLine(err); found > 0 {
			line = found
		}
	}
	fault.at(f, line, 0)
	return fault
}

// failingLine is the first line that, as the last one, makes the reader fail with err; 0
// for files so long that finding it would take long.
func (f *file) failingLine(err error) int {
	if len(f.data) > dataBytesKept {
		return 0
	}
	var ends []int
	for i, c := range f.data {
		if c == '\n' || i == len(f.data)-1 {
			ends = append(ends, i+1)
		}
	}
	text := err.Error()
	at := sort.Search(len(ends), func(i int) bool {
		failed := firstError(f.data[:ends[i]])
		return failed != nil && failed.Error() == text
	})
	if at == len(ends) {
		return 0
	}
	return at + 1
}

// firstError is what the YAML reader says to a stream.
func firstError(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// openQuote finds a quoted text that is closed on no line or, with another line given
// than 0, on that line with more text behind it: it took in what stands between. It
// returns 0 when there is none.
func (f *file) openQuote(closedOn int) (line, col int) {
	at := 0
	for text := range bytes.Lines(f.data) {
		start := quotedValue(text)
		if start >= 0 {
			quote := at + start
			end := closingQuote(f.data, quote)
			switch {
			case end < 0 && closedOn == 0:
				return f.place(quote)
			case end < 0:
			case closedOn > 0 && end >= at+len(text):
				if l, _ := f.place(end); l == closedOn && hasMore(f.data[end+1:]) {
					return f.place(quote)
				}
			}
		}
		at += len(text)
	}
	return 0, 0
}

// textAfterQuote reports whether a line has a quoted value and more behind it.
func (f *file) textAfterQuote(line int) bool {
	text := []byte(f.lineText(line))
	start := quotedValue(text)
	if start < 0 {
		return false
	}
	end := closingQuote(text, start)
	return end >= 0 && hasMore(text[end+1:])
}

// quotedValue is where the value of a `key: "value"` or `- "value"` line begins, if with
// a quote, else -1.
func quotedValue(line []byte) int {
	rest := bytes.TrimLeft(line, " -")
	if at := bytes.Index(rest, []byte(": ")); at >= 0 && !bytes.ContainsAny(rest[:at], `"'#`) {
		rest = bytes.TrimLeft(rest[at+2:], " ")
	}
	if len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' {
		return -1
	}
	return len(line) - len(rest)
}

// closingQuote is where the text whose quote opens at start is closed, or -1.
func closingQuote(data []byte, start int) int {
	quote := data[start]
	for i := start + 1; i < len(data); i++ {
		switch {
		case quote == '"' && data[i] == '\\':
			i++
		case data[i] != quote:
		case quote == '\'' && i+1 < len(data) && data[i+1] == quote:
			i++
		default:
			return i
		}
	}
	return -1
}

// hasMore reports whether more than a comment or a key's colon follows on the line.
func hasMore(rest []byte) bool {
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	rest = bytes.TrimSpace(rest)
	return len(rest) > 0 && rest[0] != '#' && rest[0] != ':'
}
