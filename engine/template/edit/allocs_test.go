//go:build !race

package edit_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// Not counted under the race detector, which allocates by itself.
func TestAllocs(t *testing.T) {
	x := pipelinetest.NewExchange("GET", "/?a=1&b=2", "X-A", "1")
	templates, list := rules(t, true, "remove gone", "rename old:new", "replace a:$(uuid)", "add/number n:1", "append l:$(headers.x_a)")
	text := []byte(`{"old":1,"a":"b","gone":{"x":[1,2,3]}}`)
	h := &x.Ctx.Request.Header
	names := edit.HeaderRules(list)
	run := func() {
		v := templates.Acquire(x)
		edit.JSON(text, list, v)
		edit.Args([]byte("old=1&a=2"), list, v)
		h.Set("Old", "1")
		edit.Headers(h, names, v)
		v.Release()
		h.Del("L")
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
