//go:build linux

package engine_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const quotaLimit = 100_000

func quotaDocument(service string) string {
	return fmt.Sprintf(`_format_version: "3.0"
gateway: {proxy_listen: "127.0.0.1:0", status_listen: "127.0.0.1:0", admin_listen: "off", log_level: info}
services:
- {name: api, url: %q, routes: [{name: all, paths: [/], strip_path: false}]}
plugins:
- {name: key-auth}
- {name: quota, instance_name: plan, config: {quota: {day: %d, year: %[2]d}}}
consumers:
- {username: ada, keyauth_credentials: [{key: ada}]}
- {username: grace, keyauth_credentials: [{key: grace}]}
`, service, quotaLimit)
}

// quotaRun is one life of a gateway with a quota.
type quotaRun struct {
	t      *testing.T
	fleet  gateways
	stream *stream
}

func (s *limitSuite) quotaRun(t *testing.T, state string) *quotaRun {
	t.Helper()
	f := gateways{startGateway(t, s.binary, quotaDocument(s.service.URL), "STATE_DIRECTORY="+state)}
	return &quotaRun{t: t, fleet: f, stream: &stream{fleet: f, paths: []string{"/quota"}, keys: []string{"ada"}, rate: 200}}
}

// used asks for one more request and returns what was counted before it.
func (r *quotaRun) used() int {
	r.t.Helper()
	y := &try{path: "/quota", key: "ada"}
	l := &stream{fleet: r.fleet, idle: map[int][]*faultConn{}}
	l.send(y)
	left, err := strconv.Atoi(y.header.Get("X-Quota-Remaining"))
	if err != nil || y.status != http.StatusOK || y.header.Get("X-Quota-Limit") != strconv.Itoa(quotaLimit) {
		r.t.Fatalf("%d %v %v", y.status, y.header, y.err)
	}
	for _, c := range l.idle[0] {
		_ = c.Close()
	}
	return quotaLimit - left - 1
}

// quotaSlack is what a write may take longer than the second between two of them.
const quotaSlack = 400 * time.Millisecond

// quota is that counts outlive the process: all of them where it is told to stop, all
// but those of the last second where it is killed.
func (s *limitSuite) quota(t *testing.T) {
	state := t.TempDir()
	counted := 0 // as far as it must be so
	for i, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		r := s.quotaRun(t, state)
		base := r.used()
		if base < counted {
			t.Errorf("%d counted at the start, want %d", base, counted)
		}
		r.stream.start().runs(t, 1700*time.Millisecond+time.Duration(i)*100*time.Millisecond)
		at := time.Now()
		r.fleet[0].end(end)
		tries := r.stream.end()
		answered := of(tries, func(y *try) bool { return y.status == http.StatusOK })
		old := of(answered, func(y *try) bool { return y.answered.Before(at.Add(-time.Second - quotaSlack)) })

		r = s.quotaRun(t, state)
		n := r.used()
		got, all := n-base-1, len(answered)
		if end == syscall.SIGKILL {
			// What was under way may have been counted and not answered.
			if got < len(old) || got > len(tries) {
				t.Errorf("%v: %d counted, %d were answered more than a second before, %d sent", end, got, len(old), len(tries))
			}
		} else if got != all {
			t.Errorf("%v: %d counted, %d were answered", end, got, all)
		}
		t.Logf("%v at %d requests: %d answered, %d lost", end, len(tries), all, all-got)
		counted = n + 1
		s.checkUsage(t, r, counted)
		r.fleet[0].end(syscall.SIGTERM)
	}
}

// checkUsage is that the metrics say what was used.
func (s *limitSuite) checkUsage(t *testing.T, r *quotaRun, n int) {
	t.Helper()
	text := string(r.fleet[0].metrics())
	for _, line := range []string{
		fmt.Sprintf(`sluice_quota_used{plugin="plan",period="year",consumer="ada"} %d`, n),
		fmt.Sprintf(`sluice_quota_limit{plugin="plan",period="year",consumer="ada"} %d`, quotaLimit),
		`sluice_quota_used{plugin="plan",period="year",consumer=""} 0`,
		`sluice_quota_refusals_total{plugin="plan"} 0`,
		`sluice_quota_callers{plugin="plan"} 1`,
		`sluice_quota_lost_total{plugin="plan"} 0`,
		`sluice_quota_write_errors_total{plugin="plan"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("not in the metrics: %s\n%s", line, strings.Join(regexp.MustCompile(`sluice_quota_\S+ .*`).FindAllString(text, -1), "\n"))
		}
	}
}

// TestQuotaReport is what the control API can show of quotas.
func TestQuotaReport(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	g := newStage(t).start(`
services: [{name: api, url: "http://api:8001", routes: [{name: all, paths: [/]}]}]
plugins:
- {name: key-auth}
- {name: quota, instance_name: plan, config: {quota: {year: 3}, consumer_groups: [{name: pro, quota: 50}]}}
consumer_groups: [{name: pro}]
consumers:
- {username: ada, groups: [{name: pro}], keyauth_credentials: [{key: ada}]}
- {username: grace, keyauth_credentials: [{key: grace}]}
- {username: idle}
`)
	for range 4 {
		_, _ = g.get("/", "apikey", "grace")
	}
	_, _ = g.get("/", "apikey", "ada")
	type consumer struct {
		Consumer    string
		Used, Limit int64
		Reset       time.Time
	}
	var report struct {
		Period    string
		Limit     int64
		Consumers []consumer
		Callers   int
		Refusals  int64
	}
	data, err := json.Marshal(g.Reports("quota")["plan"])
	if err == nil {
		err = json.Unmarshal(data, &report)
	}
	year := time.Date(time.Now().UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
	got := fmt.Sprint(report)
	want := fmt.Sprint(struct {
		Period    string
		Limit     int64
		Consumers []consumer
		Callers   int
		Refusals  int64
	}{"year", 3, []consumer{{"grace", 3, 3, year}, {"ada", 1, 50, year}}, 2, 1})
	if err != nil || got != want {
		t.Errorf("%s\n%v, want\n%v", data, got, want)
	}
}
