package router

import "regexp"

// Pattern returns the regular expression that matched the path, nil if a prefix
// or no path condition did, and how many bytes at the start of the path it does
// not look at. It is anchored where it starts to look.
func (m *Match[T]) Pattern() (re *regexp.Regexp, skipped int) { return m.regexp, m.skipped }
