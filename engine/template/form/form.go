// Package form reads and writes application/x-www-form-urlencoded text, the form
// of query strings and simple bodies, byte by byte: nothing is parsed into maps,
// so what is not touched keeps its bytes, and nothing is allocated.
package form

import "bytes"

// Next splits the first argument off: its name and value as encoded, whether it
// had an equals sign, and the rest. All are parts of text.
func Next(text []byte) (name, value []byte, found bool, rest []byte) {
	pair, rest, _ := bytes.Cut(text, []byte{'&'})
	name, value, found = bytes.Cut(pair, []byte{'='})
	return name, value, found, rest
}

// Has reports whether text has an argument of that (decoded) name.
func Has(text []byte, name string) bool {
	for len(text) > 0 {
		var key []byte
		if key, _, _, text = Next(text); Equal(key, name) {
			return true
		}
	}
	return false
}

// AppendValue appends the decoded value of the first argument of that name and
// reports whether there is one. An argument without an equals sign has the value
// "true" (Kong: boolean true).
func AppendValue(dst, text []byte, name string) ([]byte, bool) {
	for len(text) > 0 {
		var key, value []byte
		var found bool
		key, value, found, text = Next(text)
		if !Equal(key, name) {
			continue
		}
		if !found {
			return append(dst, "true"...), true
		}
		return AppendDecoded(dst, value), true
	}
	return dst, false
}

// Equal reports whether encoded stands for name.
func Equal[T string | []byte](encoded []byte, name T) bool {
	i := 0
	for len(encoded) > 0 {
		c, n := decode(encoded)
		if i == len(name) || name[i] != c {
			return false
		}
		encoded = encoded[n:]
		i++
	}
	return i == len(name)
}

// AppendDecoded appends what encoded stands for. An escape that is none stands
// for itself.
func AppendDecoded(dst, encoded []byte) []byte {
	for len(encoded) > 0 {
		c, n := decode(encoded)
		dst, encoded = append(dst, c), encoded[n:]
	}
	return dst
}

// decode reads one byte of encoded, which is not empty, and how many it took.
func decode(encoded []byte) (c byte, n int) {
	switch {
	case encoded[0] == '+':
		return ' ', 1
	case encoded[0] == '%' && len(encoded) > 2:
		hi, lo := unhex(encoded[1]), unhex(encoded[2])
		if hi < 16 && lo < 16 {
			return hi<<4 | lo, 3
		}
	}
	return encoded[0], 1
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return (c | 0x20) - 'a' + 10
	}
	return 16
}

// AppendEncoded appends text with every byte escaped that is not unreserved
// (RFC 3986 section 2.3).
func AppendEncoded[T string | []byte](dst []byte, text T) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		c := text[i]
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '.' || c == '_' || c == '~' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}
