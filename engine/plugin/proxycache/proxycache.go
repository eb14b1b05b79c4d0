package proxycache

import (
	"bytes"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// Spec and Advanced are the lines this plugin adds to plugin.All.
var (
	Spec     = pipeline.Explained(pipeline.Define(name, defaults, build), defaults, explain)
	Advanced = pipeline.Explained(pipeline.Define(nameAdvanced, defaultsAdvanced(), buildAdvanced), defaultsAdvanced(), explainAdvanced)
)

const (
	name         = "proxy-cache"
	nameAdvanced = "proxy-cache-advanced"
)

// instance is one configured instance. Immutable but for what its shelf counts.
type instance struct {
	shelf *shelf
	tier  *tier // nil without Redis
	id    string

	objectMax int64

	keying
	methods  []string
	statuses []int    // nil: what RFC 9111 lets be kept
	types    []string // nil: all
	directed bool     // cache_control or rfc
	rfc      bool

	ttl, storage     int64 // milliseconds; storage 0 where it is not set
	heuristic        int64 // milliseconds
	staleError       int64 // seconds after an answer was fresh for which errors are covered
	staleWhile       int64 // seconds
	servesStale      bool
	coalesces        bool
	patience         int64 // milliseconds
	tags, hidesKeys  bool
	shows            Headers
	keyHexLen        int
	compress         bool
	compression      *compression
	onlyIfCachedMiss *pipeline.Reply
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) { //nolint:gocritic // hugeParam: once a load
	return open(&c, env, keyHexLen)
}

func buildAdvanced(c Config, env *pipeline.Env) (pipeline.Hooks, error) { //nolint:gocritic // hugeParam: once a load
	return open(&c, env, keyHexLenAdvanced)
}

// How much of a digest X-Cache-Key tells. Kong: a SHA-256, and an MD5 in its place.
const (
	keyHexLen         = 64
	keyHexLenAdvanced = 32
)

func open(c *Config, env *pipeline.Env, keyHexLen int) (pipeline.Hooks, error) {
	s, err := openShelf(c.Memory, env)
	if err != nil {
		return pipeline.Hooks{}, err
	}
	i := newInstance(c, keyHexLen)
	i.shelf, i.id, i.objectMax = s, env.Plugin.ID, s.store.ObjectMax()
	if m := int64(c.Memory.MaxObjectSize); m > 0 {
		i.objectMax = min(m, i.objectMax)
	}
	if c.Strategy == inRedis {
		if i.tier, err = openTier(c, s, env); err != nil {
			return pipeline.Hooks{}, err
		}
	}
	return pipeline.Hooks{Request: i.request, Receive: i.receive, Log: i.log, LogIgnoresHeaders: true}, nil
}

// newInstance is what c says without a store.
func newInstance(c *Config, keyHexLen int) *instance {
	i := &instance{
		keyHexLen: keyHexLen,
		keying:    newKeying(c), methods: c.RequestMethod, statuses: c.ResponseCode, types: c.ContentType,
		directed: c.CacheControl || c.RFC, rfc: c.RFC,
		ttl: 1000 * c.CacheTTL, heuristic: 1000 * c.HeuristicTTL,
		staleError: c.StaleIfError, staleWhile: c.StaleWhileRevalidate, servesStale: c.ServeStaleOnError,
		coalesces: c.Coalesce, patience: c.CoalesceTimeout,
		tags: c.SurrogateKeys, hidesKeys: c.HideSurrogateKeys, shows: c.ResponseHeaders,
		compress: c.Compression.Enabled, compression: newCompression(&c.Compression),
		onlyIfCachedMiss: pipeline.NewJSONReply(fasthttp.StatusGatewayTimeout, ""),
	}
	if keyHexLen == keyHexLenAdvanced {
		i.mark = "+"
	}
	if c.StorageTTL != nil {
		i.storage = 1000 * *c.StorageTTL
	}
	if c.RFC {
		if slices.Equal(c.ResponseCode, codesDefault) {
			i.statuses = nil
		}
		if slices.Equal(c.ContentType, typesDefault) {
			i.types = nil
		}
		i.methods = slices.DeleteFunc(slices.Clone(c.RequestMethod), func(m string) bool { return m != "GET" && m != "HEAD" })
	}
	return i
}

func canonical(name string) []byte { return fasthttp.AppendNormalizedHeaderKey(nil, name) }

// request is hot: it answers with what is kept, or prepares to keep what will come.
func (i *instance) request(x *pipeline.Exchange) pipeline.Verdict {
	if x.Upgrade != nil {
		return pipeline.Next
	}
	v := visits.Get().(*visit)
	v.instance = i
	x.Ctx.SetUserValue(i, v) // closed with the request
	method := i.method(x)
	if method == "" {
		v.fetching = true // Receive looks whether it changes anything
		return v.bypass(reasonMethod)
	}
	v.read(&x.Ctx.Request.Header, &v.lists)
	v.begun = x.WallMillis()
	if why := v.excluded(x); why != reasonNone {
		return v.bypass(why)
	}
	v.key = i.append(v.key, x, method)
	return v.seek(x)
}

// method returns the method that x's answer is kept under, "" if it is not one of those.
func (i *instance) method(x *pipeline.Exchange) string {
	m := x.Method()
	for _, known := range i.methods {
		if string(m) == known {
			if i.directed && known == "HEAD" {
				return "GET" // RFC 9110 section 9.3.2: the same but for the body
			}
			return known
		}
	}
	return ""
}

// excluded says why a request neither gets nor leaves anything here.
func (v *visit) excluded(x *pipeline.Exchange) reason {
	switch {
	case v.precondition:
		return reasonCondition
	case v.directives && v.directed && v.demands.NoStore && !v.rfc:
		return reasonRequestNoStore // Kong: nothing is looked for either
	case v.directives && v.directed && v.demands.NoCache && !v.rfc:
		return reasonRequestNoCache
	case v.authorized && !v.directed && x.Consumer == nil:
		return reasonAuthorization // whose it is only the service knows
	case x.Ctx.Request.IsBodyStream(), x.Ctx.Request.MayContinue(), safe(x) && hasBody(x):
		return reasonBody // the service may look at it, and the key does not
	}
	return reasonNone
}

// bypass lets the request pass by the cache.
func (v *visit) bypass(why reason) pipeline.Verdict {
	v.result, v.why, v.forward = resultBypass, why, rules.Bypass
	if why == reasonMethod {
		v.forward = rules.ByMethod
	}
	v.fetching = true
	return pipeline.Next
}

// seek looks for an answer, waits for one that is under way, or leads to the service.
func (v *visit) seek(x *pipeline.Exchange) pipeline.Verdict {
	until := v.begun + v.patience
	const roundsMax = 8
	alone := v.alone(x) || !v.coalesces
	for round := 0; ; round++ {
		v.deep = alone
		use := v.find(x)
		if use == useAnswer {
			return v.serve(x)
		}
		if v.collapsed && use == useAsk && v.forward == rules.ByRequest {
			// What was asked for after x came is as new as x can want it; else x asks himself.
			if v.awaited >= x.WallMillis() {
				v.result = resultHit
				return v.serve(x)
			}
			return v.fetch(x)
		}
		if v.directives && v.directed && v.demands.OnlyIfCached {
			return v.onlyKept(x)
		}
		if use == usePass || alone || use == useAsk && v.head.alwaysAsks() {
			return v.fetch(x)
		}
		f, leads := v.join()
		switch {
		case leads:
			return v.lead(x, f)
		case f == nil || round == roundsMax:
			return v.fetch(x)
		}
		if verdict, done := v.follow(x, f, until); done {
			return verdict
		}
	}
}

// onlyKept answers a request that wants nothing but what is kept, here or in Redis.
func (v *visit) onlyKept(x *pipeline.Exchange) pipeline.Verdict {
	if v.tier != nil && !v.deep {
		if v.deep = true; v.find(x) == useAnswer {
			return v.serve(x)
		}
	}
	v.result, v.why, v.forward = resultMiss, reasonNone, rules.NotForwarded
	v.shelf.meters.count(x, resultMiss, reasonNone)
	v.stageStatus(x)
	return x.Answer(v.onlyIfCachedMiss)
}

// alone reports whether only this request can use what the service will say: it
// waits for nobody, and nobody for it.
func (v *visit) alone(x *pipeline.Exchange) bool {
	h := &x.Ctx.Request.Header
	return v.ranges != nil || v.isHead && v.directed || !h.IsHTTP11() || hasBody(x)
}

func safe(x *pipeline.Exchange) bool { return x.Ctx.IsGet() || x.Ctx.IsHead() }

// hasBody reports whether the request has a body, or will have when it has come.
func hasBody(x *pipeline.Exchange) bool {
	n := x.Ctx.Request.Header.ContentLength()
	return n > 0 || n == -1
}

// use is what can be done with what was found.
type use uint8

const (
	useNothing use = iota
	useAnswer      // give it
	useAsk         // ask whether it still stands
	usePass        // answers to this request are not kept: do not wait for one
)

// find looks for an answer to x and says what can be done with it.
func (v *visit) find(x *pipeline.Exchange) use {
	v.full = append(v.full[:0], v.key...)
	v.forward = rules.URIMiss
	if !v.look(v.key) {
		return useNothing
	}
	if v.head.kind == kindVarying {
		v.full = appendSelecting(v.full, x, v.head.fields)
		v.forward = rules.VaryMiss
		if !v.look(v.full) {
			return useNothing
		}
	}
	if v.head.kind != kindAnswer {
		pass := v.head.kind == kindPass
		v.leave()
		if pass {
			return usePass
		}
		return useNothing
	}
	return v.judge(v.view.Soft)
}

// appendSelecting appends what x says in the header fields that answers differ by.
func appendSelecting(dst []byte, x *pipeline.Exchange, names []byte) []byte {
	dst = append(dst, 0)
	h := &x.Ctx.Request.Header
	for len(names) > 0 {
		var name []byte
		name, names, _ = bytes.Cut(names, []byte{','})
		values := h.PeekAll(string(name))
		switch len(values) {
		case 0:
			dst = rules.AppendSelecting(dst, name, nil, false)
		case 1:
			dst = rules.AppendSelecting(dst, name, values[0], true)
		default:
			dst = rules.AppendSelecting(dst, name, bytes.Join(values, []byte{','}), true)
		}
	}
	return dst
}

// judge says whether the answer of v.head may be given as it is; soft, that it was purged
// softly.
func (v *visit) judge(soft bool) use {
	h := &v.head
	age, lifetime := h.ageAt(v.begun), h.lifetime
	if !v.directed {
		// Kong: what counts is how long it is here, and the ttl of now.
		age, lifetime = max(v.begun-h.stored, 0), v.ttl
	}
	if soft || h.flags&flagStale != 0 {
		lifetime = min(lifetime, age)
	}
	v.result, v.forward = resultHit, rules.NotForwarded
	var demands *rules.Demands
	if v.directives && v.directed {
		demands = &v.demands
	}
	d := h.directives(v.instance)
	verdict := rules.Decide(&d, demands, age, lifetime)
	if verdict == rules.StaleWhileRevalidate {
		v.result = resultStale
	}
	if verdict.MayServe() {
		return useAnswer
	}
	v.result, v.forward = resultRefresh, rules.Stale
	if verdict == rules.Demanded {
		v.forward = rules.ByRequest
	}
	return useAsk
}

// directives are those of a stored answer as far as they count when it is used.
func (h *head) directives(i *instance) (d rules.Directives) {
	d.Reset()
	d.NoCache, d.MustRevalidate = h.flags&flagValidate != 0, h.flags&flagNoStale != 0
	if h.staleWhile > 0 {
		d.StaleWhileRevalidate = int64(h.staleWhile)
	}
	if h.staleError > 0 && i.servesStale || h.flags&flagErrorSaid != 0 {
		d.StaleIfError = int64(h.staleError)
	}
	return d
}

// fetch lets x go to the service, prepared for keeping the answer.
func (v *visit) fetch(x *pipeline.Exchange) pipeline.Verdict {
	if !v.found {
		v.result = resultMiss
	}
	v.fetching, v.collapsed = true, false
	v.born = v.shelf.store.Seq()
	if v.tier != nil {
		v.moment, _ = v.tier.now()
	}
	v.storing = v.ranges == nil && (!v.isHead || !v.directed) && (!v.directives || !v.directed || !v.demands.NoStore)
	if !v.storing {
		if v.result, v.why = resultBypass, reasonRequestNoStore; v.ranges != nil {
			v.why = reasonRange
		} else if v.isHead {
			v.result, v.why = resultMiss, reasonNone
		}
		return pipeline.Next
	}
	v.withhold(x)
	if v.found && v.directed {
		v.ask(&x.Ctx.Request.Header)
	}
	return pipeline.Next
}

// ask makes a request one whether the answer found still stands (RFC 9111 section 4.3.1).
func (v *visit) ask(h *fasthttp.RequestHeader) {
	f := v.head.fields
	if etag := v.head.etag.of(f); len(etag) > 0 {
		h.SetBytesV("If-None-Match", etag)
		v.refreshing = true
	}
	if modified := v.head.modified.of(f); len(modified) > 0 {
		h.SetBytesV("If-Modified-Since", modified)
		v.refreshing = true
	}
}

// join takes part in the flight of v's answer. Two instances that a request passes have
// flights of their own: it must not wait for itself.
func (v *visit) join() (f *flight, leads bool) {
	v.joint = append(append(append(v.joint[:0], v.id...), 0), v.full...)
	return v.shelf.flights.join(v.joint)
}

// lead looks once more, since the answer may have come before x took the lead, and in
// Redis, on behalf of all who wait; then it goes to the service.
func (v *visit) lead(x *pipeline.Exchange, f *flight) pipeline.Verdict {
	v.flight = f
	v.deep = true
	if v.find(x) == useAnswer {
		v.settle(outcomeKept)
		return v.serve(x)
	}
	return v.fetch(x)
}

// follow waits for another request's answer. done says that x needs no further look.
func (v *visit) follow(x *pipeline.Exchange, f *flight, until int64) (verdict pipeline.Verdict, done bool) {
	patience := until - v.shelf.now()
	if d := x.Deadline; d != 0 {
		patience = min(patience, (d-pipeline.Now())/1e6)
	}
	meters := &v.shelf.meters
	shard := uint32(x.ConnID) //nolint:gosec // G115: any number is a shard
	meters.coalesced.Add(shard, 1)
	if patience <= 0 || f.await(millis(patience)) {
		meters.late.Add(shard, 1)
		return v.fetch(x), true
	}
	v.collapsed, v.awaited = true, f.begun
	v.begun = v.shelf.now()
	switch f.outcome {
	case outcomeFailed:
		if v.find(x) == useAsk && v.coversError() {
			v.result = resultStale
			return v.serve(x), true // the next one would fail as well
		}
	case outcomePass:
		return v.fetch(x), true
	case outcomeStream:
		return v.followStream(x, f)
	}
	return pipeline.Next, false // look again; or lead, if the leader has failed
}

// followStream has x read along what is coming, if it may.
func (v *visit) followStream(x *pipeline.Exchange, f *flight) (verdict pipeline.Verdict, done bool) {
	st := f.stream
	switch {
	case st.w.Purged():
		v.shelf.flights.forget(f) // asked for before the purge: one of us asks again
		return pipeline.Next, false
	case !v.isFor(x, st):
		return pipeline.Next, false // another variant: now it is known by what they differ
	}
	v.leave()
	v.head = st.head
	if v.judge(false) != useAnswer {
		return v.fetch(x), true // not new enough for x
	}
	return pipeline.Done, v.readAlong(x, st)
}

// matchesType reports whether a content type is one that is kept. Kong: to the letter,
// parameters included, but for *.
func matchesType(types []string, contentType []byte) bool {
	for _, want := range types {
		if matchesOne(want, contentType) {
			return true
		}
	}
	return false
}

func matchesOne(want string, got []byte) bool {
	if len(want) == len(got) && strings.EqualFold(want, string(got)) {
		return true
	}
	if !strings.Contains(want, "*") {
		return false
	}
	media, _, _ := bytes.Cut(got, []byte{';'})
	wantType, wantSub, _ := strings.Cut(want, "/")
	gotType, gotSub, _ := bytes.Cut(bytes.TrimSpace(media), []byte{'/'})
	return (wantType == "*" || strings.EqualFold(wantType, string(gotType))) &&
		(wantSub == "*" || wantSub == "" || strings.EqualFold(wantSub, string(gotSub)))
}
