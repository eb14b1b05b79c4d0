package stub

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// pathsMax bounds the paths that are told apart; further ones count in the total only.
const pathsMax = 100_000

// counts are the requests so far, by path.
type counts struct {
	mu    sync.Mutex
	paths map[string]int64
	other int64 // requests whose path found no room
}

// Counts is the answer of /counts.
type Counts struct {
	Requests int64 `json:"requests"` // with the prefix
	Paths    int   `json:"paths"`    // how many different ones
	Most     int64 `json:"most"`     // requests of the path that had most
	Other    int64 `json:"other"`    // requests, with whatever prefix, beyond the paths told apart
}

func (c *counts) add(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.paths[path]; !ok && len(c.paths) >= pathsMax {
		c.other++
		return
	}
	c.paths[path]++
}

func (c *counts) answer(ctx *fasthttp.RequestCtx) {
	prefix := string(ctx.QueryArgs().Peek("prefix"))
	c.mu.Lock()
	out := Counts{Other: c.other}
	for path, n := range c.paths {
		if strings.HasPrefix(path, prefix) {
			out.Requests += n
			out.Paths++
			out.Most = max(out.Most, n)
		}
	}
	c.mu.Unlock()
	text, err := json.Marshal(out)
	if err != nil {
		panic("BUG: counts: " + err.Error())
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(text)
}

// failing is what the service was told to get wrong.
type failing struct {
	mu       sync.Mutex
	code     int // status to answer with
	failures int // requests left that fail; negative: all
	wrongs   int // bodies left that are wrong; negative: all
	any      atomic.Bool
}

// order obeys POST /fail.
func (f *failing) order(ctx *fasthttp.RequestCtx) {
	args := ctx.QueryArgs()
	n := args.GetUintOrZero("n")
	if string(args.Peek("n")) == "-1" {
		n = -1
	}
	code := args.GetUintOrZero("status")
	wrong := args.GetBool("wrong")
	if !ctx.IsPost() || (code == 0) == !wrong || !wrong && (code < 400 || code > 599) {
		ctx.Error("/fail: want POST with status=400 to 599, or wrong=1, and n, how many\n", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if wrong {
		f.wrongs = n
	} else {
		f.code, f.failures = code, n
	}
	f.any.Store(f.failures != 0 || f.wrongs != 0)
}

// status returns what to fail the current request with, 0 not to.
func (f *failing) status() int {
	if !f.any.Load() { // Fast path: nothing was ordered.
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !take(&f.failures) {
		return 0
	}
	return f.code
}

// wrong says whether the current body must be wrong.
func (f *failing) wrong() bool {
	if !f.any.Load() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return take(&f.wrongs)
}

// take takes one of *left, of which a negative number is endless.
func take(left *int) bool {
	if *left > 0 {
		*left--
		return true
	}
	return *left < 0
}
