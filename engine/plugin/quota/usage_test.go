package quota

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// nextMonth is when the month in UTC ends.
func nextMonth() string {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC).Format(time.RFC3339)
}

func TestMetrics(t *testing.T) {
	s := load(t, pipeline.NewKeeper(), t.TempDir(), "quota: {day: 3, month: 5}, warn_at: 40")
	defer s.release(t)
	for range 4 {
		s.use("bob")
	}
	s.use("c-1")
	s.use("")
	var b strings.Builder
	s.book.Expose(&b)
	want := `sluice_quota_used{plugin="plan",period="month",consumer="bob"} 3
sluice_quota_used{plugin="plan",period="month",consumer="c-1"} 1
sluice_quota_used{plugin="plan",period="month",consumer=""} 0
sluice_quota_limit{plugin="plan",period="month",consumer="bob"} 5
sluice_quota_limit{plugin="plan",period="month",consumer="c-1"} 5
sluice_quota_refusals_total{plugin="plan"} 1
sluice_quota_warnings_total{plugin="plan"} 2
sluice_quota_callers{plugin="plan"} 3
sluice_quota_lost_total{plugin="plan"} 0
sluice_quota_write_errors_total{plugin="plan"} 0
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	kind, name, report := s.book.Report()
	text, err := json.Marshal(report)
	if err != nil || kind != "quota" || name != "plan" {
		t.Errorf("%s %s %v", kind, name, err)
	}
	for _, want := range []string{
		`{"period":"month","limit":5,"consumers":[{"consumer":"bob","used":3,"limit":5,"reset":"` + nextMonth() + `"},{"consumer":"c-1",`,
		`"callers":3,"refusals":1,"directory":"` + s.book.ledger.dir,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("want %s in\n%s", want, text)
		}
	}
}

func TestReportIsBounded(t *testing.T) {
	var consumers strings.Builder
	const many = listedMax + 50
	for i := range many {
		fmt.Fprintf(&consumers, "- {username: u%04d}\n", i)
	}
	text := strings.Replace(document("quota: {month: 5}, state_dir: "+t.TempDir()), "consumers:\n", "consumers:\n"+consumers.String(), 1)
	s := loadText(t, pipeline.NewKeeper(), text)
	defer s.release(t)
	for i := range many {
		s.use(fmt.Sprintf("u%04d", i))
	}
	s.use("u0007")
	_, _, report := s.book.Report()
	f := report.(facts)
	if len(f.Consumers) != listedMax || f.More != 50 || f.Others != 50 || f.Consumers[0].Consumer != "u0007" || f.Consumers[0].Used != 2 {
		t.Errorf("%d listed, %d more, %d others, first %+v", len(f.Consumers), f.More, f.Others, f.Consumers[0])
	}
	var b strings.Builder
	s.book.Expose(&b)
	if n := strings.Count(b.String(), "sluice_quota_used{"); n != listedMax+1 {
		t.Errorf("%d series", n)
	}
}

func TestPlanOfTheNewestSnapshot(t *testing.T) {
	keeper, dir := pipeline.NewKeeper(), t.TempDir()
	first := load(t, keeper, dir, "quota: {month: 5}")
	second := load(t, keeper, dir, "quota: {month: 7}")
	limit := func() int64 {
		_, _, report := first.book.Report()
		return report.(facts).Limit
	}
	if got := limit(); got != 7 {
		t.Errorf("limit %d, want 7", got)
	}
	// One that fails elsewhere is closed though it never served.
	second.release(t)
	if got := limit(); got != 5 {
		t.Errorf("limit %d, want 5", got)
	}
	first.release(t)
}

func TestLostAreCounted(t *testing.T) {
	s := load(t, pipeline.NewKeeper(), t.TempDir(), "quota: {month: 5}, keys_max: 64")
	defer s.release(t)
	for i := range 1000 {
		x := at(newExchange(), "2031-03-01T12:00:00Z")
		x.Credential = &pipeline.Credential{ID: fmt.Sprint(i)}
		s.hooks.Request(x)
		x.UpstreamStatus = 200
		s.hooks.Log(x)
	}
	var b strings.Builder
	s.book.Expose(&b)
	if strings.Contains(b.String(), "sluice_quota_lost_total{plugin=\"plan\"} 0\n") {
		t.Error(b.String())
	}
}

func TestEscape(t *testing.T) {
	if got := escape("a\"b\\c\nd\xff"); got != "a\\\"b\\\\c\\nd\uFFFD" {
		t.Errorf("escaped %q", got)
	}
}
