//go:build !race

package record_test

import (
	"testing"
)

// Not counted under the race detector, which allocates by itself.
func TestAllocs(t *testing.T) {
	x := exchange()
	e := open(t, map[string]string{"rid": "return kong.request.get_header('X-Multi')", "request.size": "return nil"})
	buf := e.Append(nil, x)
	if n := testing.AllocsPerRun(100, func() { buf = e.Append(buf[:0], x) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
