package quota

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/limiter"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

const (
	// listedMax is how many consumers are told apart.
	listedMax = 1000
	// summaryLife is for how long a summary of very many consumers is good.
	summaryLife = 10 * time.Second
	// manyConsumers take long enough to look at that it is not done at every turn.
	manyConsumers = 20_000
)

// used is what one consumer has used of the longest period.
type used struct {
	Consumer string `json:"consumer"`
	Used     int64  `json:"used"`
	Limit    int64  `json:"limit"`
	Reset    string `json:"reset"` // RFC 3339

	end int64
}

// summary is who has used how much: those who used the most, and the sum of the others.
// Immutable.
type summary struct {
	at     int64
	plan   *plan
	top    []used
	others int64 // how much
	more   int   // how many
}

// summarize looks at every consumer of the newest snapshot.
func (b *book) summarize() *summary {
	p, now := b.plan.Load(), pipeline.Now()
	if p == nil {
		return &summary{}
	}
	if s := b.summary.Load(); s != nil && s.plan == p && len(p.listed) > manyConsumers && now-s.at < int64(summaryLife) {
		return s
	}
	s := &summary{at: now, plan: p}
	second := pipeline.WallMillis(now) / 1000
	for _, c := range p.listed {
		u := used{Consumer: c.Username, Limit: p.limitOf(p.consumers.ByID(c.ID))}
		if u.Consumer == "" {
			u.Consumer = cmp.Or(c.CustomID, c.ID)
		}
		if u.Used, u.end = b.usedBy(c.ID, second, p); u.Used > 0 {
			s.top = append(s.top, u)
		}
	}
	slices.SortFunc(s.top, func(a, b used) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), strings.Compare(a.Consumer, b.Consumer))
	})
	if len(s.top) > listedMax {
		for _, u := range s.top[listedMax:] {
			s.others += u.Used
			s.more++
		}
		s.top = slices.Clone(s.top[:listedMax])
	}
	b.summary.Store(s)
	return s
}

// usedBy returns what a consumer has used of the longest period, and when that ends.
func (b *book) usedBy(id string, now int64, p *plan) (n, end int64) {
	if b.heard != nil {
		if r, ok := b.heard.usedBy(id, now); ok {
			return r.used, r.end
		}
		return 0, 0
	}
	var uses, ends [limiter.Periods]int64
	key := b.key(byConsumer, id, nil)
	b.quotas.Peek(key, now, uses[:len(p.periods)])
	n = uses[p.longest()]
	if n > 0 {
		b.quotas.Ends(key, now, ends[:len(p.periods)])
	}
	return n, ends[p.longest()]
}

// escape writes s as the value of a label.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "�"))
}

// Expose implements pipeline.Exposer.
func (b *book) Expose(w io.Writer) {
	s := b.summarize()
	if s.plan == nil {
		return
	}
	plugin := escape(s.plan.name)
	period := s.plan.periods[s.plan.longest()]
	var text strings.Builder
	for i := range s.top {
		fmt.Fprintf(&text, "sluice_quota_used{plugin=\"%s\",period=%q,consumer=\"%s\"} %d\n", plugin, period, escape(s.top[i].Consumer), s.top[i].Used)
	}
	fmt.Fprintf(&text, "sluice_quota_used{plugin=\"%s\",period=%q,consumer=\"\"} %d\n", plugin, period, s.others)
	for i := range s.top {
		fmt.Fprintf(&text, "sluice_quota_limit{plugin=\"%s\",period=%q,consumer=\"%s\"} %d\n", plugin, period, escape(s.top[i].Consumer), s.top[i].Limit)
	}
	fmt.Fprintf(&text, "sluice_quota_refusals_total{plugin=\"%s\"} %d\n", plugin, b.refusals.Load())
	fmt.Fprintf(&text, "sluice_quota_warnings_total{plugin=\"%s\"} %d\n", plugin, b.warnings.Load())
	if b.quotas != nil {
		fmt.Fprintf(&text, "sluice_quota_callers{plugin=\"%s\"} %d\n", plugin, b.quotas.Len())
		fmt.Fprintf(&text, "sluice_quota_lost_total{plugin=\"%s\"} %d\n", plugin, b.quotas.Forgotten())
		fmt.Fprintf(&text, "sluice_quota_write_errors_total{plugin=\"%s\"} %d\n", plugin, b.ledger.failures.Load())
	} else {
		fmt.Fprintf(&text, "sluice_quota_store_errors_total{plugin=\"%s\"} %d\n", plugin, b.storeErrors.Load())
	}
	_, _ = io.WriteString(w, text.String()) // a scraper that is gone needs nothing
}

// facts are what the control API shows.
type facts struct {
	Period    string `json:"period"` // the longest
	Limit     int64  `json:"limit"`  // of who is in no group
	Consumers []used `json:"consumers"`
	More      int    `json:"more_consumers,omitempty"` // not listed
	Others    int64  `json:"used_by_more_consumers,omitempty"`
	Callers   int    `json:"callers,omitempty"` // consumers, credentials and addresses
	Refusals  int64  `json:"refusals"`
	Directory string `json:"directory,omitempty"`
}

// Report implements pipeline.Reporter.
func (b *book) Report() (kind, name string, report any) {
	s := b.summarize()
	if s.plan == nil {
		return "quota", "", facts{}
	}
	f := facts{
		Period: s.plan.periods[s.plan.longest()].String(), Limit: s.plan.limits[s.plan.longest()],
		Consumers: make([]used, len(s.top)), More: s.more, Others: s.others, Refusals: b.refusals.Load(),
	}
	for i, u := range s.top {
		u.Reset = time.Unix(u.end, 0).UTC().Format(time.RFC3339)
		f.Consumers[i] = u
	}
	if b.quotas != nil {
		f.Callers, f.Directory = b.quotas.Len(), b.ledger.dir
	}
	return "quota", s.plan.name, f
}
