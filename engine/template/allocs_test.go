//go:build !race

package template_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/engine/template"
)

// Not counted under the race detector, which allocates by itself.
func TestAllocs(t *testing.T) {
	x := exchange()
	c, err := template.Compile(`$(headers.x_under or "n")$(query_params.b)$(uuid)$(timestamp)$(request_id)$(consumer_groups)` +
		`$(remote_addr)$(latencies.request)$(status)$(uri_captures.id .. "x")$(user_id)`)
	if err != nil {
		t.Fatal(err)
	}
	buf := c.Append(nil, x)
	if n := testing.AllocsPerRun(100, func() { buf = c.Append(buf[:0], x) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
