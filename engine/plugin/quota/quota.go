// Package quota is the quota plugin (not in Kong): so many requests a month, or any
// other period, as a plan of the caller allows. Counts outlive restarts.
//
//	plugins:
//	- name: quota
//	  config:
//	    quota: {month: 1000000}
//	    consumer_groups:
//	    - {name: starter, quota: 10000}
//	    - {name: professional, quota: 100000}
//
// A plugin acme whose settings have a quota is read as this one, with a warning, unless
// the file is read strictly: Kong's acme issues certificates.
//
// # Whose quota
//
// Each consumer has his own, else each credential, else each client IP. Counts belong to
// the configured instance, which its id names: that of the document, else one made of
// the plugin's name and scope.
//
// quota may name several periods, second to year: a request must fit into all. The quota
// of a consumer group takes the place of the limit of the longest of them, for its
// members; a member of several has the highest of theirs. (Settings that Kong itself
// binds to groups go by the first group's name.) To give a group everything, bind an
// instance to the consumer_group.
//
// # When it begins anew
//
// reset_on says when months and years begin: first_day of the calendar's, a day of the
// month from 1 to 31 (of January for a year; the last day where a month is shorter), or
// anniversary: the day and time of the caller's first request. With anniversary the
// shorter periods begin with that time, too, else with the calendar's. timezone is the
// IANA name of the zone whose calendar that is (UTC). A clock that is set back gives
// nobody a period twice.
//
// # What counts
//
// A proxied request that the service answers with a status below 500: not one that the
// gateway answers itself, as from a cache or because the service cannot be reached.
// With count_errors every request counts that was let in here.
//
// A request is counted when it comes and given back when its answer does not count. So
// a quota is never exceeded, however many requests come at a time; requests under way
// that will be given back may keep another one out.
//
// # What the client sees
//
//	X-Quota-Limit: 10000        of the period with the least remaining
//	X-Quota-Remaining: 1999     with this request counted
//	X-Quota-Reset: 86400        seconds until that period begins anew
//	X-Quota-Warning: 80         once warn_at percent (80) of any quota are used
//
// hide_client_headers leaves them out. A request above the quota gets them too, with
// Retry-After, and is answered error_code (429) with error_message (API quota exceeded).
// If the very scope of this instance (route, service, consumer, group or everywhere)
// has a request-termination with enabled: false, that one answers instead.
//
// # Where counts are
//
// strategy local: in this process, and in files under state_dir, written behind the
// requests once a second. A restart or a reload finds the counts as they were; a crash
// or a loss of power loses those of the last second or so. The directory is of one
// gateway at a time: another is refused when it loads.
//
// state_dir is by default the directory $STATE_DIRECTORY, which systemd sets, else
// /var/lib/sluice, else, where that cannot be written, a directory for temporary files,
// with a warning: those may be gone after a reboot. The files of an instance are in
// <state_dir>/quota/<id>/<calendar>. A changed limit, group or message finds the counts
// as they are; other periods, another reset_on or timezone have counts of their own.
// At most keys_max callers (1,048,576) are counted, of some 100 bytes each; beyond
// that who used the least is forgotten. A changed keys_max takes effect with a restart.
//
// strategy redis: nodes that share a Redis count together, exactly. A request asks it
// once, and one that is given back once more. What it holds of a period expires with
// it. Without a host in the redis block it is the connection default of gateway.redis;
// cluster is that connection too. Durable it is as far as that Redis is. If it does not
// answer, requests pass uncounted with fault_tolerant, else they are answered 500.
//
// # What can be seen
//
//	sluice_quota_used{plugin,period,consumer}    of the longest period
//	sluice_quota_limit{plugin,period,consumer}
//	sluice_quota_refusals_total{plugin}
//	sluice_quota_warnings_total{plugin}          callers who came to warn_at percent
//	sluice_quota_callers{plugin}                 counted in this process
//	sluice_quota_lost_total{plugin}              callers forgotten because of keys_max
//	sluice_quota_write_errors_total{plugin}      of files
//	sluice_quota_store_errors_total{plugin}      of Redis
//
// The 1,000 consumers who used the most have series of their own, the others a sum
// under consumer="". Report (kind quota) has the same consumers with used, limit and
// reset. With Redis both tell what this node has last heard.
package quota

import (
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("quota", defaults, build).AsWriter()

// limit is one configured instance.
type limit struct {
	*plan
	book     *book
	shared   *shared // nil: in this process
	warnAt   int64   // percent; 0 for never
	warning  []byte
	hidden   bool
	errors   bool // they count
	tolerant bool
	exceeded *pipeline.Reply
	standIn  func(*pipeline.Exchange) // nil: exceeded answers
	failure  *pipeline.Reply
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	calendars, err := c.calendars()
	if err != nil {
		return pipeline.Hooks{}, err
	}
	p := newPlan(&c, env)
	l := &limit{
		plan: p, warnAt: int64(c.WarnAt), warning: strconv.AppendInt(nil, int64(c.WarnAt), 10),
		hidden: c.HideClientHeaders, errors: c.CountErrors, tolerant: c.FaultTolerant,
		exceeded: pipeline.NewReply(c.ErrorCode, c.ErrorMessage),
		failure:  pipeline.NewReply(fasthttp.StatusInternalServerError, "An unexpected error occurred"),
	}
	if env.StandIn != nil {
		l.standIn = env.StandIn(env.Plugin)
	}
	if c.Strategy == local {
		l.book, err = keepLocal(&c, calendars, env)
	} else {
		l.book, l.shared, err = keepShared(&c, calendars, env)
	}
	if err != nil {
		return pipeline.Hooks{}, fmt.Errorf("strategy %q: %w", c.Strategy, err)
	}
	// A snapshot that fails elsewhere is closed before it served: then what the
	// metrics show is again what it was.
	was := l.book.plan.Swap(p)
	hooks := pipeline.Hooks{
		Request: l.request, Log: l.log, LogIgnoresHeaders: true,
		Close: func() { l.book.plan.CompareAndSwap(p, was) },
	}
	if c.CountErrors {
		hooks.Log = nil
	}
	return hooks, nil
}

// request is hot: it counts the request or refuses it.
func (l *limit) request(x *pipeline.Exchange) pipeline.Verdict {
	r := reservations.Get().(*reservation)
	r.begin(l, x)
	ok, err := r.take(l)
	if err != nil {
		l.book.storeErrors.Add(uint32(x.ConnID), 1)
		r.drop()
		if l.tolerant {
			return pipeline.Next
		}
		return x.Answer(l.failure)
	}
	l.warn(x, r, ok)
	if !l.hidden {
		l.stage(x, r, !ok)
	}
	switch {
	case !ok:
		r.drop()
		l.book.refusals.Add(uint32(x.ConnID), 1)
		return l.refuse(x)
	case l.errors:
		r.drop()
	default:
		x.Ctx.SetUserValue(l, r)
	}
	return pipeline.Next
}

// refuse answers as the disabled request-termination of the same scope would.
func (l *limit) refuse(x *pipeline.Exchange) pipeline.Verdict {
	if l.standIn != nil {
		if l.standIn(x); x.Answered() {
			return pipeline.Done
		}
	}
	return x.Answer(l.exceeded)
}

// warn stages a warning and counts those who come to it with this request.
func (l *limit) warn(x *pipeline.Exchange, r *reservation, counted bool) {
	if l.warnAt == 0 {
		return
	}
	warned := false
	for i := range l.periods {
		used, limit := r.used[i], r.limits[i]
		if used*100 < limit*l.warnAt { // no overflow: limits are at most limitMax
			continue
		}
		if !warned && !l.hidden {
			x.Stage("X-Quota-Warning", l.warning)
		}
		warned = true
		if counted && limiter.Crossed(used, 1, limit, uint8(l.warnAt)) {
			l.book.warnings.Add(uint32(x.ConnID), 1)
		}
	}
}

// stage promises the headers of the period with the least remaining, the longer one if
// equal.
func (l *limit) stage(x *pipeline.Exchange, r *reservation, refused bool) {
	tightest, least := 0, int64(-1)
	for i := range l.periods {
		if left := max(r.limits[i]-r.used[i], 0); least < 0 || left <= least {
			tightest, least = i, left
		}
	}
	reset := max(r.ends[tightest]-r.now, 1)
	x.StageInt("X-Quota-Limit", r.limits[tightest])
	x.StageInt("X-Quota-Remaining", least)
	x.StageInt("X-Quota-Reset", reset)
	if refused {
		x.StageInt("Retry-After", reset)
	}
}

// log is hot. It gives back what does not count.
func (l *limit) log(x *pipeline.Exchange) {
	r, _ := x.Ctx.UserValue(l).(*reservation)
	if r == nil {
		return // refused, or answered before it came here
	}
	x.Ctx.RemoveUserValue(l)
	if x.UpstreamStatus != 0 && x.UpstreamStatus < fasthttp.StatusInternalServerError {
		r.drop()
		return
	}
	_ = r.Close() // never fails
}
