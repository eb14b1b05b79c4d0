package config

import "strings"

// Nearest is the known name most like the given one, or "" when none is like enough to
// be what was meant. Case and the choice between - and _ count as no difference; of
// equally near names the first wins.
func Nearest(name string, known []string) string {
	const nameBytesMax = 64 // longer names are not typing errors
	if name == "" || len(name) > nameBytesMax {
		return ""
	}
	folded := foldName(name)
	best, bestDistance := "", 1+min(3, max(1, len(name)/3))
	for _, k := range known {
		if len(k) > nameBytesMax || k == name {
			continue
		}
		if d := distance(folded, foldName(k)); d < bestDistance && d < max(len(name), len(k)) {
			best, bestDistance = k, d
		}
	}
	return best
}

func foldName(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }

// distance counts the insertions, deletions, substitutions and swaps of neighbours that
// turn a into b (optimal string alignment).
func distance(a, b string) int {
	var rows [3][66]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
