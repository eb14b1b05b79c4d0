// Package framing writes bodies of unknown length as both sides of the gateway
// send them: in chunks (RFC 9112 section 7.1).
package framing

// ChunkHead and ChunkTail are the bytes to leave free before and after what is
// read into a buffer, for Chunk to frame it in place.
const (
	ChunkHead = 10 // up to eight hex digits and CRLF
	ChunkTail = 2  // CRLF
)

// LastChunk ends a chunked body without trailer fields.
const LastChunk = "0\r\n\r\n"

// Chunk frames the n bytes at buf[ChunkHead:] in place and returns the chunk, a
// part of buf. n must be positive and leave ChunkTail bytes free behind it.
func Chunk(buf []byte, n int) []byte {
	end := ChunkHead + n
	buf[end], buf[end+1] = '\r', '\n'
	i := ChunkHead - 2
	buf[i], buf[i+1] = '\r', '\n'
	for size := n; size > 0; size >>= 4 {
		i--
		buf[i] = "0123456789abcdef"[size&15]
	}
	return buf[i : end+ChunkTail]
}
