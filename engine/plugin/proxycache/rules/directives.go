package rules

// Directives are the response directives of Cache-Control (RFC 9111 5.2.2, RFC 5861,
// RFC 8246), or those of a field that takes its place. Ages are in seconds, Absent if
// not sent, at most SecondsMax. The zero value is not an answer without directives:
// use Reset. May be copied.
type Directives struct {
	NoStore, NoCache, Private, Public      bool
	MustRevalidate, ProxyRevalidate        bool
	MustUnderstand, NoTransform, Immutable bool
	Targeted                               bool // from AddTargeted or AddSurrogate: Cache-Control and Expires do not count
	MaxAge, SMaxAge                        int64
	StaleWhileRevalidate, StaleIfError     int64

	// NoCacheFields and PrivateFields are the field names of no-cache="…" and
	// private="…", separated by commas, for ListHas; nil without. NoCache or Private
	// is false then: the rest of the answer may be used or stored. They lie in the
	// value they were parsed from and live no longer.
	NoCacheFields, PrivateFields []byte
}

// Reset makes d an answer without any directive.
func (d *Directives) Reset() {
	*d = Directives{MaxAge: Absent, SMaxAge: Absent, StaleWhileRevalidate: Absent, StaleIfError: Absent}
}

// Add adds the directives of one line of Cache-Control; lines add up as if they were
// one list. Names match in any case, arguments may be quoted, unknown directives are
// ignored (RFC 9111 5.2, 5.2.3).
//
// Of an age sent twice the first counts, and one that is no number of seconds is 0,
// so that the answer is stale (RFC 9111 4.2.1). A prohibition with an argument it does
// not have, or with junk behind it, still prohibits; a permission does not permit.
// no-cache and private with and without field names, or with two lists, count as
// without.
func (d *Directives) Add(value []byte) {
	for l := (elements{rest: value}); ; {
		element := l.next()
		if element == nil {
			return
		}
		x := cutDirective(element)
		d.add(&x)
	}
}

func (d *Directives) add(x *directive) {
	switch {
	case x.is("max-age"):
		firstAge(&d.MaxAge, x)
	case x.is("s-maxage"):
		firstAge(&d.SMaxAge, x)
	case x.is("stale-while-revalidate"):
		firstAge(&d.StaleWhileRevalidate, x)
	case x.is("stale-if-error"):
		firstAge(&d.StaleIfError, x)
	case x.is("no-store"):
		d.NoStore = true
	case x.is("no-cache"):
		qualify(&d.NoCache, &d.NoCacheFields, x)
	case x.is("private"):
		qualify(&d.Private, &d.PrivateFields, x)
	case x.is("must-revalidate"):
		d.MustRevalidate = true
	case x.is("proxy-revalidate"):
		d.ProxyRevalidate = true
	case x.is("no-transform"):
		d.NoTransform = true
	case x.form != plain:
		// What follows permits something, and has no argument.
	case x.is("public"):
		d.Public = true
	case x.is("must-understand"):
		d.MustUnderstand = true
	case x.is("immutable"):
		d.Immutable = true
	}
}

// firstAge sets an age that was not sent before.
func firstAge(age *int64, x *directive) {
	if *age == Absent {
		*age = max(x.seconds(), 0)
	}
}

// qualify adds one no-cache or private, with or without field names.
func qualify(whole *bool, fields *[]byte, x *directive) {
	named := x.form == token || x.form == quoted
	named = named && isFieldList(x.argument) && (*fields == nil || equalFold(*fields, x.argument))
	if *whole || !named {
		*whole, *fields = true, nil
		return
	}
	if *fields == nil {
		*fields = x.argument
	}
}

// isFieldList reports whether b is a list of at least one field name.
func isFieldList(b []byte) bool {
	l, n := elements{rest: b, bare: true}, 0
	for ; ; n++ {
		element := l.next()
		if element == nil {
			return n > 0
		}
		if !isToken(element) {
			return false
		}
	}
}

// Demands are the request directives of Cache-Control (RFC 9111 5.2.1, RFC 5861 4).
// Ages are in seconds, Absent if not sent, at most SecondsMax. The zero value is not a
// request without directives: use Reset. May be copied.
type Demands struct {
	NoCache, NoStore, OnlyIfCached           bool
	NoTransform                              bool
	AnyStale                                 bool // max-stale without a number
	MaxAge, MaxStale, MinFresh, StaleIfError int64
}

// Reset makes m a request without any directive.
func (m *Demands) Reset() {
	*m = Demands{MaxAge: Absent, MaxStale: Absent, MinFresh: Absent, StaleIfError: Absent}
}

// Add adds the directives of one line of Cache-Control, read as Directives.Add does.
// Of max-stale with and without a number the number counts.
func (m *Demands) Add(value []byte) {
	for l := (elements{rest: value}); ; {
		element := l.next()
		if element == nil {
			return
		}
		x := cutDirective(element)
		m.add(&x)
	}
}

func (m *Demands) add(x *directive) {
	switch {
	case x.is("no-cache"):
		m.NoCache = true
	case x.is("no-store"):
		m.NoStore = true
	case x.is("only-if-cached"):
		m.OnlyIfCached = true
	case x.is("no-transform"):
		m.NoTransform = true
	case x.is("max-age"):
		firstAge(&m.MaxAge, x)
	case x.is("min-fresh"):
		firstAge(&m.MinFresh, x)
	case x.is("stale-if-error"):
		firstAge(&m.StaleIfError, x)
	case x.is("max-stale") && x.form == plain:
		m.AnyStale = m.MaxStale == Absent
	case x.is("max-stale"):
		m.AnyStale = false
		firstAge(&m.MaxStale, x)
	}
}

// AddPragma adds one line of Pragma: no-cache means what it means in Cache-Control,
// and nothing else is known. To be called only for a request without Cache-Control
// (RFC 9111 5.4).
func (m *Demands) AddPragma(value []byte) {
	for l := (elements{rest: value}); ; {
		element := l.next()
		if element == nil {
			return
		}
		if is(element, "no-cache") {
			m.NoCache = true
		}
	}
}
