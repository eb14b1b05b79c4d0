package router

// sniMatches reports whether sni, in any letter case and perhaps with a trailing
// dot, is one of the patterns.
func sniMatches(patterns []hostPattern, sni string) bool {
	if n := len(sni); n > 0 && sni[n-1] == '.' {
		sni = sni[:n-1]
	}
	for _, p := range patterns {
		rest := len(sni) - len(p.name)
		switch p.kind {
		case plainHost:
			if rest == 0 && sameFold(sni, p.name) {
				return true
			}
		case leadingHost:
			if rest > 0 && sameFold(sni[rest:], p.name) {
				return true
			}
		case trailingHost:
			if rest > 0 && sameFold(sni[:len(p.name)], p.name) {
				return true
			}
		}
	}
	return false
}

// sameFold is equalFold for two strings of equal length.
func sameFold(s, lower string) bool {
	for i := range len(s) {
		if lowerByte(s[i]) != lower[i] {
			return false
		}
	}
	return true
}
