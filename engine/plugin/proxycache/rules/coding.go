package rules

// Codings is a set of content codings (RFC 9110 8.4.1, RFC 7932, RFC 8878).
type Codings uint8

// The codings, least preferred first: of two that a client likes equally the later is
// taken, since it packs tighter.
const (
	Identity Codings = 1 << iota
	Gzip
	Zstd
	Brotli
)

// codingNames are in the order of the constants.
var codingNames = [...]string{"identity", "gzip", "zstd", "br"}

// String returns the name of a single coding, as in Content-Encoding.
func (c Codings) String() string {
	for i, name := range codingNames {
		if c == 1<<i {
			return name
		}
	}
	return "unknown"
}

// CodingOf returns the coding of that name, in any case, or 0 if it is not known.
func CodingOf(name []byte) Codings {
	if is(name, "x-gzip") { // RFC 9110 8.4.1.3
		return Gzip
	}
	for i, known := range codingNames {
		if is(name, known) {
			return 1 << i
		}
	}
	return 0
}

// AcceptedCodings reads Accept-Encoding, whose lines the caller has joined with commas
// (RFC 9110 12.5.3). preferred is the single coding with the greatest weight, of equal
// ones br, zstd, gzip, identity in this order; identity counts least where it is not
// named. Both are 0 if nothing known is accepted, not even identity.
//
// If present is false, the field was not sent: all is accepted and identity preferred.
// Malformed members are ignored; of a coding named twice the lower weight counts.
func AcceptedCodings(value []byte, present bool) (accepted, preferred Codings) {
	if !present {
		return Identity | Gzip | Zstd | Brotli, Identity
	}
	weights, rest := [len(codingNames)]int{Absent, Absent, Absent, Absent}, Absent
	for l := (elements{rest: value}); ; {
		element := l.next()
		if element == nil {
			break
		}
		name, weight := cutWeight(element)
		if weight < 0 {
			continue
		}
		if is(name, "*") {
			rest = lesser(rest, weight)
		}
		known := CodingOf(name)
		for i := range weights {
			if known == 1<<i {
				weights[i] = lesser(weights[i], weight)
			}
		}
	}
	best := 0
	for i, weight := range weights {
		switch {
		case weight != Absent:
			weight *= 2
		case rest != Absent:
			weight = rest * 2
		case Codings(1<<i) == Identity:
			weight = 1 // less than any weight that was sent
		}
		if weight <= 0 {
			continue
		}
		accepted |= 1 << i
		if weight >= best {
			best, preferred = weight, 1<<i
		}
	}
	return accepted, preferred
}

func lesser(old, weight int) int {
	if old == Absent {
		return weight
	}
	return min(old, weight)
}

// cutWeight cuts a member of Accept-Encoding into the coding and its weight in
// thousandths; the weight is -1 if the member is malformed (RFC 9110 12.4.2).
func cutWeight(element []byte) (name []byte, weight int) {
	n := tokenLen(element)
	name = element[:n]
	if n == 0 {
		return nil, -1
	}
	rest := trim(element[n:])
	if len(rest) == 0 {
		return name, 1000
	}
	if rest[0] != ';' {
		return name, -1
	}
	rest = trim(rest[1:])
	if len(rest) < 3 || lower(rest[0]) != 'q' || rest[1] != '=' {
		return name, -1
	}
	return name, parseWeight(rest[2:])
}

// parseWeight reads 0 to 1 with up to three decimals, in thousandths, -1 if it is
// something else.
func parseWeight(b []byte) int {
	if b[0] != '0' && b[0] != '1' || len(b) > 5 || len(b) > 1 && b[1] != '.' {
		return -1
	}
	weight, unit := int(b[0]-'0')*1000, 100
	for _, c := range b[min(2, len(b)):] {
		if !isDigit(c) {
			return -1
		}
		weight += int(c-'0') * unit
		unit /= 10
	}
	if weight > 1000 {
		return -1
	}
	return weight
}

// AppendCodings appends Accept-Encoding in the form that equals for all who accept the
// same codings, whatever their weights: names in lower case and in the order of the
// alphabet, then those refused, where that makes a difference, with ;q=0. Codings that
// are not known here count too, since the origin may know them. A value that has a
// malformed member, or more than 16 codings, is appended as it is.
func AppendCodings(dst, value []byte) []byte {
	var names sorted
	var refused [VaryNamesMax]bool
	for l := (elements{rest: value}); ; {
		element := l.next()
		if element == nil {
			break
		}
		name, weight := cutWeight(element)
		if is(name, "x-gzip") {
			name = name[2:]
		}
		before := names.n
		i := -1
		if weight >= 0 {
			i = names.insert(name)
		}
		if i < 0 {
			return append(dst, trim(value)...)
		}
		if names.n > before {
			copy(refused[i+1:], refused[i:before])
			refused[i] = false
		}
		refused[i] = refused[i] || weight == 0
	}
	return appendCodings(dst, &names, &refused)
}

func appendCodings(dst []byte, names *sorted, refused *[VaryNamesMax]bool) []byte {
	start := len(dst)
	others, noOthers, identity := false, false, false
	for i, name := range names.all() {
		if is(name, "*") {
			others, noOthers = !refused[i], refused[i]
		}
		if is(name, "identity") {
			identity = true
		} else if !refused[i] {
			dst = appendCoding(dst, start, name)
		}
	}
	for i, name := range names.all() {
		// Who refuses what he does not name anyway says nothing by refusing it.
		if refused[i] && (others || is(name, "identity")) && !is(name, "*") {
			dst = append(appendCoding(dst, start, name), refusal...)
		}
	}
	if noOthers && !identity {
		dst = append(appendCoding(dst, start, identityName), refusal...)
	}
	return dst
}

func appendCoding(dst []byte, start int, name []byte) []byte {
	if len(dst) > start {
		dst = append(dst, ',')
	}
	return appendLower(dst, name)
}

const refusal = ";q=0"

var identityName = []byte("identity")
