package pipeline

import "bytes"

// CutArgument cuts the first argument off a query or form body
// (application/x-www-form-urlencoded); more says that another one follows.
// The results lie in args.
func CutArgument(args []byte) (arg, rest []byte, more bool) {
	return bytes.Cut(args, ampersand)
}

var ampersand = []byte{'&'}

// HasArgument reports whether a query or form body has an argument of that name,
// with or without a value.
func HasArgument(args []byte, name string) bool {
	for more := len(args) > 0; more; {
		var arg []byte
		if arg, args, more = CutArgument(args); IsArgument(arg, name) {
			return true
		}
	}
	return false
}

// IsArgument reports whether an argument as CutArgument gives it has this name
// once its escapes are decoded.
func IsArgument(arg []byte, name string) bool {
	i := 0
	for len(arg) > 0 && arg[0] != '=' {
		var c byte
		if c, arg = decodeByte(arg); i == len(name) || name[i] != c {
			return false
		}
		i++
	}
	return i == len(name)
}

// RemoveArgument removes every argument of a name in place and returns what is
// left; all other bytes stay as they are.
func RemoveArgument(args []byte, name string) []byte {
	kept, first := args[:0], true
	for more := len(args) > 0; more; {
		var arg []byte
		if arg, args, more = CutArgument(args); IsArgument(arg, name) {
			continue
		}
		if !first {
			kept = append(kept, '&')
		}
		kept, first = append(kept, arg...), false
	}
	return kept
}

// AppendDecoded appends the name or value of an argument without its escapes to
// dst. A malformed escape stands for itself, as in nginx.
func AppendDecoded(dst, escaped []byte) []byte {
	for len(escaped) > 0 {
		var c byte
		c, escaped = decodeByte(escaped)
		dst = append(dst, c)
	}
	return dst
}

// decodeByte returns the first character of b, which is not empty, and the rest.
func decodeByte(b []byte) (c byte, rest []byte) {
	switch {
	case b[0] == '+':
		return ' ', b[1:]
	case b[0] == '%' && len(b) >= 3:
		if high, low := hexDigit(b[1]), hexDigit(b[2]); high < 16 && low < 16 {
			return high<<4 | low, b[3:]
		}
	}
	return b[0], b[1:]
}

// hexDigit returns the value of a hexadecimal digit, or 16.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 16
}
