package edit

import "github.com/sluice-gateway/sluice/engine/template/form"

// Args applies rules to a query string or form body and reports whether anything
// changed. The result is then memory of v, in v.A, else text itself. Arguments that no rule
// concerns keep their bytes and order; a rename to nothing is none.
func Args(text []byte, rules []Rule, v *Values) (result []byte, changed bool) {
	for i := range rules {
		r := &rules[i]
		if has := form.Has(text, r.Name); has == (r.Op == Add) && r.Op != Append {
			continue // remove, rename, replace: nothing there; add: there already
		}
		if r.Op == Rename && len(v.Of(r)) == 0 {
			continue // a template that gave no name
		}
		// Two buffers change places: one is read while the other is written.
		v.B = arg(v.B[:0], text, r, v)
		v.A, v.B = v.B, v.A
		text, changed = v.A, true
	}
	return text, changed
}

func arg(dst, text []byte, r *Rule, v *Values) []byte {
	value, replaced := v.Of(r), false
	for rest := text; len(rest) > 0; {
		before := rest
		var name []byte
		name, _, _, rest = form.Next(rest)
		pair := before[:len(before)-len(rest)]
		if n := len(pair); n > 0 && pair[n-1] == '&' {
			pair = pair[:n-1]
		}
		same := form.Equal(name, r.Name)
		switch {
		case same && r.Op == Remove:
		case same && r.Op == Rename:
			dst = form.AppendEncoded(separate(dst), value)
			dst = append(dst, pair[len(name):]...)
		case r.Op == Rename && form.Equal(name, value): // gives way to the renamed one
		case same && r.Op == Replace:
			if !replaced {
				dst = appendArg(dst, r.Name, value)
			}
			replaced = true
		default:
			dst = append(separate(dst), pair...)
		}
	}
	if r.Op == Add || r.Op == Append {
		dst = appendArg(dst, r.Name, value)
	}
	return dst
}

func appendArg(dst []byte, name string, value []byte) []byte {
	dst = form.AppendEncoded(separate(dst), name)
	return form.AppendEncoded(append(dst, '='), value)
}

func separate(dst []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, '&')
	}
	return dst
}
