package proxycache

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

func explain(c Config, x *pipeline.Exchange) []string { //nolint:gocritic // hugeParam: once a question
	return explained(newInstance(&c, keyHexLen), &c, x)
}

func explainAdvanced(c Config, x *pipeline.Exchange) []string { //nolint:gocritic // hugeParam: once a question
	return explained(newInstance(&c, keyHexLenAdvanced), &c, x)
}

// explained says what i would do with x's request, and with its answer if there is one.
func explained(i *instance, c *Config, x *pipeline.Exchange) []string {
	i.objectMax = int64(c.Memory.MaxObjectSize)
	if i.objectMax == 0 {
		i.objectMax = math.MaxInt32
	}
	v := &visit{instance: i, course: course{begun: pipeline.WallMillis(pipeline.Now())}}
	method := i.method(x)
	if method == "" {
		says := []string{"nothing is looked for or kept: " + explanations[reasonMethod]}
		if i.directed {
			says = append(says, "an answer from 200 to 399 makes what is kept of this path go")
		}
		return says
	}
	v.read(&x.Ctx.Request.Header, &v.lists)
	if why := v.excluded(x); why != reasonNone {
		return []string{"nothing is looked for or kept: " + explanations[why]}
	}
	v.full = i.append(nil, x, method)
	d := digest(v.full)
	says := []string{"key: " + strings.ReplaceAll(string(v.full), "\x00", " | ") + ", X-Cache-Key " + hex.EncodeToString(d[:i.keyHexLen/2])}
	switch {
	case v.ranges != nil:
		return append(says, "a kept answer gives the range; else the service is asked for it, and the answer is not kept: "+explanations[reasonRange])
	case v.isHead && i.directed:
		return append(says, "a kept answer to GET serves it; else the service is asked, and the answer is not kept")
	case !x.Answered():
		return append(says, "say what the service answers, by --status and --answer, to be told whether that is kept")
	}
	return append(says, v.explainAnswer(x)...)
}

// explainAnswer says what becomes of x's answer.
func (v *visit) explainAnswer(x *pipeline.Exchange) []string {
	resp := &x.Ctx.Response
	a := &v.answer
	a.read(resp)
	a.examine(v.instance, resp.StatusCode(), v.begun)
	var h head
	x.UpstreamStart = pipeline.Now()
	if why := v.plan(x, &h, v.begun); why != reasonNone {
		return []string{"the answer is not kept: " + explanations[why]}
	}
	if v.directives && v.directed && v.demands.NoStore {
		return []string{"the answer is not kept: " + explanations[reasonRequestNoStore]}
	}
	v.finish(&h, v.begun)
	fresh := "fresh for " + span64(h.lifetime-h.age)
	switch {
	case h.flags&flagValidate != 0:
		fresh = "never given without asking (no-cache)"
	case h.lifetime <= h.age:
		fresh = "stale from the beginning, and asked about"
	}
	says := []string{fmt.Sprintf("the answer is kept: %s, for %s in all", fresh, span64(v.life(&h)))}
	if v.directed && len(a.vary) > 0 {
		says = append(says, "apart for each "+strings.ReplaceAll(string(a.vary), ",", ", "))
	}
	if n := len(a.labels); n > 0 {
		says = append(says, fmt.Sprintf("it can be purged by %d surrogate keys", n))
	}
	if h.staleWhile > 0 {
		says = append(says, fmt.Sprintf("for %d s after that it is given while it is asked for anew", h.staleWhile))
	}
	if h.staleError > 0 && h.flags&flagNoStale == 0 {
		says = append(says, fmt.Sprintf("for %d s after it was fresh it is given if the service fails", h.staleError))
	}
	if h.flags&flagCompress != 0 {
		says = append(says, "it is given in the encoding that a client accepts")
	}
	return says
}

func span64(ms int64) string { return fmt.Sprintf("%d s", ms/1000) }

// explanations are the reasons as sentences.
var explanations = [reasons]string{
	reasonMethod:         "the method is not one of request_method",
	reasonRequestNoStore: "the request says no-store",
	reasonRequestNoCache: "the request says no-cache, which passes by the cache unless rfc is set",
	reasonAuthorization:  "the request has Authorization, and whose answer it is the gateway does not know, or nothing lets a shared cache keep it (public, s-maxage or must-revalidate would)",
	reasonRange:          "a part is asked for, and only whole answers are kept",
	reasonCondition:      "If-Match and If-Unmodified-Since are for the service to judge",
	reasonStatus:         "the status is not one that is kept (response_code; with rfc those of RFC 9111)",
	reasonContentType:    "the Content-Type is not one of content_type, which is compared to the letter, parameters included",
	reasonNoStore:        "it says no-store",
	reasonPrivate:        "it says private",
	reasonNoCache:        "it says no-cache: it would have to be asked about each time, which takes rfc and an ETag or Last-Modified",
	reasonNotFresh:       "nothing says that it is fresh: no s-maxage, max-age or Expires ahead, and no Last-Modified to guess from",
	reasonSetCookie:      "it sets a cookie, which is for one client",
	reasonVary:           "it has Vary: *, more than 16 names there, or a header that the gateway sets itself",
	reasonPartial:        "it is a part (206), and parts are not kept",
	reasonNotUnderstood:  "it says must-understand with a status that is not understood here",
	reasonTooLarge:       "it is larger than memory.max_object_size",
	reasonHeader:         "its header has more than 48 KiB",
	reasonSurrogateKeys:  "it has more than 18 surrogate keys, and could not be purged by all of them",
	reasonEventStream:    "it is an event stream, which has no end",
	reasonBody:           "the request has a body, which is not part of the key",
}
