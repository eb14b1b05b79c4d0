package framing

import (
	"bufio"
	"bytes"
	"io"
	"net/http/httputil"
	"testing"
)

// What Chunk writes, the standard library reads.
func TestChunk(t *testing.T) {
	for _, n := range []int{1, 9, 10, 15, 16, 255, 256, 4095, 32 << 10} {
		buf := make([]byte, ChunkHead+n+ChunkTail)
		for i := range n {
			buf[ChunkHead+i] = byte(i)
		}
		want := bytes.Clone(buf[ChunkHead : ChunkHead+n])
		wire := append(bytes.Clone(Chunk(buf, n)), LastChunk...)
		got, err := io.ReadAll(httputil.NewChunkedReader(bufio.NewReader(bytes.NewReader(wire))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}
