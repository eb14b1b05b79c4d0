package rules

import "bytes"

// AddTargeted reads a targeted field, such as CDN-Cache-Control, whose lines the
// caller has joined with commas (RFC 9213 2.1). It then stands alone: what d held of
// Cache-Control is dropped, and Targeted says that Expires does not count either.
//
// It returns false, and leaves d as it was, if the value is empty or is no Dictionary
// of RFC 9651: the field is then as if it had not been sent. Keys are lower-case, the
// last of two counts, parameters are ignored, ages are Integers: of any other type, or
// negative, they count as 0. All directives mean what they mean in Cache-Control.
func (d *Directives) AddTargeted(value []byte) bool {
	s, ok := dictionary(value)
	if !ok {
		return false
	}
	var next Directives
	next.Reset()
	next.Targeted = true
	for len(s.rest) > 0 {
		m, ok := s.member()
		if !ok {
			return false
		}
		next.set(&m)
	}
	*d = next
	return true
}

func (d *Directives) set(m *member) {
	switch string(m.key) {
	case "max-age":
		d.MaxAge = m.seconds()
	case "s-maxage":
		d.SMaxAge = m.seconds()
	case "stale-while-revalidate":
		d.StaleWhileRevalidate = m.seconds()
	case "stale-if-error":
		d.StaleIfError = m.seconds()
	case "no-store":
		d.NoStore = m.prohibits()
	case "no-cache":
		d.NoCache, d.NoCacheFields = m.qualified()
	case "private":
		d.Private, d.PrivateFields = m.qualified()
	case "must-revalidate":
		d.MustRevalidate = m.prohibits()
	case "proxy-revalidate":
		d.ProxyRevalidate = m.prohibits()
	case "no-transform":
		d.NoTransform = m.prohibits()
	case "public":
		d.Public = m.truth
	case "must-understand":
		d.MustUnderstand = m.truth
	case "immutable":
		d.Immutable = m.truth
	}
}

func (m *member) seconds() int64 {
	if m.kind != sfInteger {
		return 0
	}
	return min(max(m.integer, 0), SecondsMax)
}

// prohibits is true for what is not plainly false.
func (m *member) prohibits() bool { return m.kind != sfBoolean || m.truth }

func (m *member) qualified() (whole bool, fields []byte) {
	if m.kind == sfString && isFieldList(m.text) {
		return false, m.text
	}
	return m.prohibits(), nil
}

// AddSurrogate reads Surrogate-Control, whose lines the caller has joined with commas
// (Edge Architecture 1.0, section 2.2). It then stands alone as after AddTargeted.
//
// max-age=N+M is fresh for N seconds and may be used for M more while it is asked for
// anew: StaleWhileRevalidate. no-store-remote counts as no-store, since a gateway does
// not know how far from the origin it is. Directives with a device token (;abc) are
// for that device and ignored. It returns false, and leaves d as it was, if an element
// is malformed or none of these directives is there: content="ESI/1.0" alone says
// nothing about caching.
func (d *Directives) AddSurrogate(value []byte) bool {
	var next Directives
	next.Reset()
	next.Targeted = true
	for l := (elements{rest: value}); ; {
		element := l.next()
		if element == nil {
			break
		}
		element, forDevice := cutDevice(element)
		x := cutDirective(element)
		switch {
		case x.form == malformed || len(x.name) == 0:
			return false
		case forDevice:
		case x.is("no-store"), x.is("no-store-remote"):
			next.NoStore = true
		case x.is("max-age") && next.MaxAge == Absent:
			fresh, stale, more := bytes.Cut(x.argument, plus)
			next.MaxAge = max(parseSeconds(fresh), 0)
			if more {
				next.StaleWhileRevalidate = max(parseSeconds(stale), 0)
			}
		}
	}
	if !next.NoStore && next.MaxAge == Absent {
		return false
	}
	*d = next
	return true
}

var plus = []byte{'+'}

// cutDevice cuts an element at the first semicolon outside of a quoted string.
func cutDevice(element []byte) (rest []byte, found bool) {
	l := elements{rest: element}
	for i := 0; i < len(element); i += l.step(i) {
		if element[i] == ';' {
			return trim(element[:i]), true
		}
	}
	return element, false
}
