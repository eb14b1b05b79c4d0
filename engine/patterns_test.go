package engine_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// TestPatterns runs the golden files of testdata/patterns, one a pattern: a
// document, requests, and what became of each. Services are played by origins
// that say which address was reached and what arrived there. Requests go over one
// connection, one after the other.
//
//	# comment
//	<document>
//	=====
//	GET /path            or: 100 x GET /path
//	Header: value
//	=> 200 origin=users-api:8001 uri=/path
//
// Between requests a line of "!!" changes what goes on around the gateway:
//
//	!! api-1:8001 ok | refuse | mute | drop | hold | status=503 | after=1 | delay=50ms | uses=videos=2 | header=Age:5
//	                                     what the origin of an address does from now on;
//	                                     uses is what X-Kong-Limit says of each request; a
//	                                     comma in the value of a header stands for a space
//	!! purge /path | key=tag | soft      kept answers are taken back: some, or all; or
//	                                     all become stale
//	!! await api-1:8001 unhealthy        until a target, or a service's circuit, is so
//	!! await sluice_some_metric 1        until the metrics have this line
//	!! reload host: a -> host: b         the document with this text replaced goes live
//	!! begin 3 x GET /path               one after the other, each until it is at an origin
//	!! queue 2 x GET /path               one after the other, each until it waits in a queue
//	!! end                               the next => says what became of those
//	!! within minute                     what follows is played in one minute of the clock
//
// What remains of limits is not shown of a request that is repeated. A document that
// names the host redis has a real one at redis:6379. Counts that are written to files
// are in a directory of the pattern's own.
//
// With -update the "=>" lines are written anew.
func TestPatterns(t *testing.T) {
	files, err := filepath.Glob("testdata/patterns/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no patterns: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text, requests, ok := strings.Cut(string(data), "\n=====\n")
			if !ok {
				t.Fatalf("%s has no ===== line", file)
			}
			s := newStage(t)
			t.Setenv("STATE_DIRECTORY", t.TempDir())
			if strings.Contains(text, "host: redis\n") {
				s.real = map[string]string{"redis:6379": redistest.Start(t).Addr()}
			}
			p := &play{gateway: s.start(text), stage: s, text: text, client: kept(t)}
			golden(t, file, text+"\n=====\n"+p.run(requests))
		})
	}
}

// play is one golden file being run.
type play struct {
	*gateway
	stage  *stage
	text   string // of the live document
	client *http.Client
	begun  []*pending
	queued int  // requests that have waited in a queue
	ended  bool // the next answer is that of what was begun
}

// run plays the lines after the document and returns them with what happened.
func (p *play) run(lines string) string {
	var out strings.Builder
	var stanza []string
	for line := range strings.Lines(lines) {
		if strings.HasPrefix(line, "=> ") {
			out.WriteString("=> " + p.answer(stanza) + "\n")
			stanza = nil
			continue
		}
		out.WriteString(line)
		line = strings.TrimSpace(line)
		switch change, ok := strings.CutPrefix(line, "!! "); {
		case ok:
			p.change(change)
		case line != "" && !strings.HasPrefix(line, "#"):
			stanza = append(stanza, line)
		}
	}
	return out.String()
}

// change does what a line of "!!" says.
func (p *play) change(line string) {
	p.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "await":
		if name, state, _ := strings.Cut(rest, " "); strings.HasPrefix(name, "sluice_") {
			eventually(p.t, rest, func() bool { return p.metric(rest) })
		} else {
			p.await(name, state)
		}
	case "reload":
		old, text, _ := strings.Cut(rest, " -> ")
		if !strings.Contains(p.text, old) {
			p.t.Fatalf("not in the document: %s", old)
		}
		p.text = strings.ReplaceAll(p.text, old, text)
		p.apply(p.text)
	case "purge":
		p.purge(rest)
	case "begin", "queue":
		p.begin(rest, word == "queue")
	case "end":
		p.ended = true
	case "within":
		eventually(p.t, "a minute that lasts", func() bool { return time.Now().Second() < 60-minuteRest })
	default:
		p.stage.cast(word, roleOf(p.t, word, rest))
	}
}

// minuteRest is how many seconds of a minute must be left for what is played within it.
const minuteRest = 8

// roleOf reads what the origin of an address is to do.
func roleOf(t testing.TB, address, words string) (r role) {
	t.Helper()
	for word := range strings.FieldsSeq(words) {
		var err error
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "ok":
		case "refuse":
			r.refuse = true
		case "mute":
			r.mute = true
		case "drop":
			r.drop = true
		case "hold":
			r.hold = true
		case "status":
			r.status, err = strconv.Atoi(value)
		case "after":
			r.after = value
		case "delay":
			r.delay, err = time.ParseDuration(value)
		case "header":
			field, text, _ := strings.Cut(value, ":")
			r.answer = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(field, strings.ReplaceAll(text, ",", " "))
				writeEcho(w, r, address)
			}
		case "uses":
			r.answer = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Kong-Limit", value)
				writeEcho(w, r, address)
			}
		default:
			t.Fatalf("not known to origins: %s", word)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// purge takes kept answers back.
func (p *play) purge(what string) {
	purge := &pipeline.Purge{}
	if key, ok := strings.CutPrefix(what, "key="); ok {
		purge.Keys = []string{key}
	} else if what == "soft" {
		purge.Soft = true
	} else {
		purge.Path = what
	}
	p.Purge(purge)
}

// begin sends requests that are not waited for.
func (p *play) begin(request string, queued bool) {
	p.t.Helper()
	times, _, path := repeated(p.t, request)
	for range times {
		p.stage.mu.Lock()
		at := p.stage.total
		p.stage.mu.Unlock()
		p.begun = append(p.begun, p.background(path))
		if !queued {
			p.stage.awaitActive("", at+1)
			continue
		}
		p.queued++
		eventually(p.t, "a request in a queue", func() bool { return p.metric(fmt.Sprintf("sluice_upstream_queue_waits_total %d", p.queued)) })
	}
}

// repeated reads "3 x GET /path".
func repeated(t testing.TB, request string) (times int, method, path string) {
	t.Helper()
	times = 1
	if n, rest, ok := strings.Cut(request, " x "); ok {
		if v, err := strconv.Atoi(n); err == nil {
			times, request = v, rest
		}
	}
	method, path, ok := strings.Cut(request, " ")
	if !ok {
		t.Fatalf("not a request: %q", request)
	}
	return times, method, path
}

// answer sends the request of a stanza, perhaps several times, and describes what
// came back: one outcome, or how often each.
func (p *play) answer(stanza []string) string {
	p.t.Helper()
	outcomes := map[string]int{}
	if p.ended {
		for _, b := range p.begun {
			a := b.wait(p.t)
			outcomes[describe(p.gateway, a, len(p.begun) > 1)]++
		}
		p.begun, p.ended = nil, false
		return counted(outcomes)
	}
	if len(stanza) == 0 {
		p.t.Fatal("an answer without a request")
	}
	times, method, path := repeated(p.t, stanza[0])
	var headers []string
	for _, h := range stanza[1:] {
		name, value, _ := strings.Cut(h, ":")
		headers = append(headers, name, strings.TrimSpace(value))
	}
	for range times {
		a := p.send(p.client, method, path, http.NoBody, headers...)
		outcomes[describe(p.gateway, a, times > 1)]++
	}
	return counted(outcomes)
}

// counted writes how often there was which outcome.
func counted(outcomes map[string]int) string {
	var parts []string
	for _, o := range slices.Sorted(maps.Keys(outcomes)) {
		if n := outcomes[o]; n > 1 || len(outcomes) > 1 {
			o = fmt.Sprintf("%d x %s", n, o)
		}
		parts = append(parts, o)
	}
	return strings.Join(parts, "; ")
}

// shown are the headers of an answer that a golden file shows after those of limits, and
// sent those of a request as it arrived at the service.
var (
	shown = []string{"Retry-After", "Www-Authenticate", "X-Gateway", "Kong-Request-Id", "X-Retry-Count", "X-Upstream-Timeout", "Set-Cookie", "X-Cache-Status", "Warning", "Surrogate-Key"}
	sent  = []string{"X-Consumer-Username", "X-Credential-Identifier", "X-Gateway", "X-Feature-Flags", "X-Tenant-Id", "X-Forwarded-Prefix", "X-Ratelimit-Remaining-Videos", "User-Agent"}
)

// limitsOf writes what an answer says about limits: all but when they begin anew.
func limitsOf(h http.Header, repeated bool) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		kind, ok := strings.CutPrefix(name, "X-Ratelimit-")
		if !ok {
			kind, ok = strings.CutPrefix(name, "X-Quota-")
		}
		if !ok || kind == "Reset" || repeated && strings.HasPrefix(kind, "Remaining") {
			continue
		}
		fmt.Fprintf(&b, " %s=%s", name, strings.Join(h[name], "|"))
	}
	return b.String()
}

func describe(g *gateway, a *answer, repeated bool) string {
	if a.resp == nil {
		return "no answer"
	}
	resp, body := a.resp, a.body
	var b strings.Builder
	fmt.Fprintf(&b, "%d", resp.StatusCode)
	if strings.HasPrefix(body, `{"origin"`) {
		e := echoed(g.t, body)
		fmt.Fprintf(&b, " origin=%s uri=%s host=%s", e.Origin, e.URI, e.Host)
		for _, name := range sent {
			if v := e.Header[name]; v != nil && !strings.HasPrefix(v[0], "Go-http-client") {
				fmt.Fprintf(&b, " sent:%s=%s", name, strings.Join(v, "|"))
			}
		}
	} else if line, _, _ := strings.Cut(strings.TrimPrefix(body, "{\n"), "\n"); line != "" {
		fmt.Fprintf(&b, " body=%s", strings.TrimSpace(line))
	}
	b.WriteString(limitsOf(resp.Header, repeated))
	for _, name := range shown {
		v := resp.Header.Values(name)
		switch {
		case v == nil:
		case name == "Retry-After":
			b.WriteString(" Retry-After=<seconds>")
		case name == "Set-Cookie":
			fmt.Fprintf(&b, " Set-Cookie=%s", uuids.ReplaceAllString(strings.Join(v, "|"), "<uuid>"))
		default:
			fmt.Fprintf(&b, " %s=%s", name, strings.Join(v, "|"))
		}
	}
	if a.err != nil {
		b.WriteString(" cut")
	}
	return b.String()
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
