package router

// Captures are the groups of a path regexp that took part in a match.
type Captures struct {
	Numbered []string          // by number of the group, from group 1; "" if it took no part
	Named    map[string]string // only groups that took part
}

// Captures runs the winning path regexp again and returns its groups. path must
// be the Request.Path that was matched. The zero value is returned if no regexp
// won or it has no groups. It allocates: call it only where captures are wanted.
func (m *Match[T]) Captures(path []byte) Captures {
	if m.regexp == nil || m.regexp.NumSubexp() == 0 {
		return Captures{}
	}
	path = path[min(m.skipped, len(path)):]
	at := m.regexp.FindSubmatchIndex(path)
	if at == nil { // an expression matched lower(http.path)
		return Captures{}
	}
	c := Captures{Numbered: make([]string, m.regexp.NumSubexp())}
	names := m.regexp.SubexpNames()
	for i := range c.Numbered {
		start, end := at[2*i+2], at[2*i+3]
		if start < 0 {
			continue
		}
		c.Numbered[i] = string(path[start:end])
		if name := names[i+1]; name != "" {
			if c.Named == nil {
				c.Named = map[string]string{}
			}
			c.Named[name] = c.Numbered[i]
		}
	}
	return c
}

// HasCaptures reports whether the winning path regexp has groups.
func (m *Match[T]) HasCaptures() bool { return m.regexp != nil && m.regexp.NumSubexp() > 0 }
