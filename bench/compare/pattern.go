package main

import (
	"regexp"
	"slices"
	"strings"
)

// exactly returns the pattern of one row.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// narrow returns the pattern of those rows of a -bench pattern that belong to one top-level
// benchmark. Like go test it splits the pattern at "|" into alternatives and these at
// "/" into the patterns of parts, neither inside brackets or parentheses.
func narrow(pattern, top string) string {
	var narrowed []string
	for _, alternative := range splitOutside(pattern, '|') {
		parts := splitOutside(alternative, '/')
		// What cannot be compiled go test has refused before.
		if re, err := regexp.Compile(parts[0]); err == nil && re.MatchString(top) {
			parts[0] = "^" + regexp.QuoteMeta(top) + "$"
			narrowed = append(narrowed, strings.Join(parts, "/"))
		}
	}
	return strings.Join(narrowed, "|")
}

// splitOutside splits at a byte that stands neither in brackets nor parentheses, nor behind
// a backslash.
func splitOutside(s string, at byte) []string {
	var parts []string
	square, round, from := 0, 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '[':
			square++
		case c == ']':
			square = max(square-1, 0)
		case c == '(' && square == 0:
			round++
		case c == ')' && square == 0:
			round--
		case c == at && square == 0 && round == 0:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

// group are rows whose names differ in one part.
type group struct {
	name  string   // with * for that part
	names []string // the first is what the others are compared with
	parts []string // the part of each
}

// groupRows finds the rows that have the part, but as their first, and those that differ from
// them in it alone; a row that has no other beside it is left out.
func groupRows(names []string, part string) []group {
	var groups []group
	at := map[string]int{}
	for _, name := range names {
		eachPart(name, func(key, is string) {
			if _, known := at[key]; is == part && !known {
				at[key] = len(groups)
				groups = append(groups, group{name: key, names: []string{name}, parts: []string{is}})
			}
		})
	}
	for _, name := range names {
		eachPart(name, func(key, is string) {
			if i, ok := at[key]; ok && is != part {
				groups[i].names = append(groups[i].names, name)
				groups[i].parts = append(groups[i].parts, is)
			}
		})
	}
	return slices.DeleteFunc(groups, func(g group) bool { return len(g.names) < 2 })
}

// eachPart calls f for each part of a name but the first, with the name that has * for it.
func eachPart(name string, f func(key, part string)) {
	parts := strings.Split(name, "/")
	for i := 1; i < len(parts); i++ {
		starred := slices.Clone(parts)
		starred[i] = "*"
		f(strings.Join(starred, "/"), parts[i])
	}
}
