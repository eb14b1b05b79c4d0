package ratelimiting

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// window is one limit of an instance with its headers rendered.
type window struct {
	size   int64 // seconds, nominal
	period limiter.Period
	limit  int64

	limitHeader     string
	remainingHeader string
	decimal         []byte // the limit
	item            []byte // of the draft's RateLimit: its name and the key of what remains
}

// render makes the headers of a window; name is that of its size.
func (w *window) render() {
	name := w.name()
	w.limitHeader, w.remainingHeader = "X-Ratelimit-Limit-"+title(name), "X-Ratelimit-Remaining-"+title(name)
	w.decimal = strconv.AppendInt(nil, w.limit, 10)
	w.item = fmt.Appendf(nil, "%q;r=", name)
}

// name is the word for the window's size, else the size in seconds.
func (w *window) name() string {
	for p := limiter.Second; p <= limiter.Year; p++ {
		if p.Seconds() == w.size {
			return p.String()
		}
	}
	return strconv.FormatInt(w.size, 10)
}

func title(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// policy is the value of the draft's RateLimit-Policy: every window.
func policy(windows []window) []byte {
	var b []byte
	for i := range windows {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, "%q;q=%d;w=%d", windows[i].name(), windows[i].limit, windows[i].size)
	}
	return b
}

// headers tell the client about his limits. Immutable.
type headers struct {
	windows  []window
	calendar bool
	kong     bool
	policy   []byte // nil without the draft's headers
	jitter   int64  // seconds
}

func newHeaders(p *plan) headers {
	h := headers{windows: p.windows, calendar: p.calendar, kong: p.style != "draft", jitter: p.jitter}
	for i := range h.windows {
		h.windows[i].render()
	}
	if p.style != "kong" {
		h.policy = policy(h.windows)
	}
	return h
}

// start returns when the window that now lies in began, in seconds.
func (h *headers) start(w *window, now int64) int64 {
	if h.calendar {
		return w.period.Start(now)
	}
	return now - now%w.size
}

// reset returns in how many seconds the window that now lies in ends, at least 1.
func (h *headers) reset(w *window, now int64) int64 {
	return max(1, w.size-(now-h.start(w, now)))
}

// tightest is the window with the least remaining, the longer one if equal.
func (h *headers) tightest(used []int64) (at int, least int64) {
	least = math.MaxInt64
	for i := range h.windows {
		if n := max(h.windows[i].limit-used[i], 0); n <= least {
			at, least = i, n
		}
	}
	return at, least
}

// stage is hot: it writes numbers beside names that were rendered at load. now is in
// seconds; wait is for how many more the request was refused, 0 if it was not.
func (h *headers) stage(x *pipeline.Exchange, now, wait int64, used []int64) {
	at, least := h.tightest(used)
	w := &h.windows[at]
	reset := wait
	if wait == 0 {
		reset = h.reset(w, now)
	}
	if h.kong {
		for i := range h.windows {
			w := &h.windows[i]
			x.Stage(w.limitHeader, w.decimal)
			x.StageInt(w.remainingHeader, max(w.limit-used[i], 0))
		}
		x.Stage("Ratelimit-Limit", w.decimal)
		x.StageInt("Ratelimit-Remaining", least)
		x.StageInt("Ratelimit-Reset", reset)
	}
	if h.policy != nil {
		var value [64]byte
		b := strconv.AppendInt(append(value[:0], w.item...), least, 10)
		b = strconv.AppendInt(append(b, ";t="...), reset, 10)
		x.Stage("Ratelimit-Policy", h.policy)
		x.Stage("Ratelimit", b)
	}
	if wait > 0 {
		if h.jitter > 0 {
			wait += rand.Int64N(h.jitter + 1)
		}
		x.StageInt("Retry-After", wait)
	}
}
