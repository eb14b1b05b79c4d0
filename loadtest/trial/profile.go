package trial

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Limits of a profile.
const (
	requestsMax      = 1000
	weightMax        = 1000
	headersMax       = 100
	headBytesMax     = 32 << 10 // of one request or answer
	bodyBytesMax     = 16 << 20
	connectionsMax   = 4096
	roundsMax        = 100
	ratePerSecondMax = 1_000_000
	durationMax      = 10 * time.Minute
	latencyMax       = 10 * time.Second
	profileBytesMax  = 20 << 20
	plannedMin       = 10 // requests of one measurement at the rate
)

// Profile says what is sent through the gateway, at which rate, and what must come out.
// NewProfile has the defaults. Once read it is not changed.
type Profile struct {
	Name        string     `json:"name" doc:"Stands in reports."`
	Requests    []Request  `json:"requests" doc:"What is asked for; none: one request a route that needs nothing but method, host and path."`
	Service     Service    `json:"service" doc:"The service that stands in for all services of the document."`
	Connections int        `json:"connections" min:"1" max:"4096" doc:"Kept connections of the generator, each with one request at a time."`
	Rounds      int        `json:"rounds" min:"1" max:"100"`
	Duration    Duration   `json:"duration" doc:"Of each measurement."`
	WarmUp      Duration   `json:"warm_up" doc:"Before each measurement, not counted."`
	Rate        Rate       `json:"rate" doc:"At which latency is measured: requests per second, or a share of the capacity."`
	Thresholds  Thresholds `json:"thresholds"`
}

// Request is one request of the mixture.
type Request struct {
	Name    string            `json:"name" doc:"Stands in reports; method and path where absent."`
	Method  string            `json:"method"`
	Path    string            `json:"path" required:"true" doc:"With its query, as it goes over the wire."`
	Host    string            `json:"host"`
	Headers map[string]string `json:"headers" doc:"Values may hold ${VARIABLE} and ${VARIABLE:-default}."`
	Body    string            `json:"body"`
	Status  int               `json:"status" min:"0" max:"599" doc:"That the gateway must answer; absent or 0: the service's."`
	Weight  int               `json:"weight" min:"1" max:"1000" doc:"Share of the mixture, relative to the others."`
}

// Service is the service that answers instead of the document's.
type Service struct {
	BodyBytes int      `json:"body_bytes" min:"0" max:"16777216"`
	Latency   Duration `json:"latency" doc:"Between a request and its answer."`
	Status    int      `json:"status" min:"200" max:"599"`
}

// Thresholds are what must hold. Those that are absent are measured and not judged, but
// for failures, of which none is allowed by default.
type Thresholds struct {
	WireRatio float64     `json:"wire_ratio" min:"0" max:"1000" doc:"CPU time per request, in that of a byte relay."`
	P50       Duration    `json:"p50" doc:"Latency at the rate, from the planned time of sending."`
	P95       Duration    `json:"p95"`
	P99       Duration    `json:"p99"`
	P999      Duration    `json:"p999"`
	Failures  Share       `json:"failures" doc:"Share of requests with another status or body than expected, or with none."`
	Memory    config.Size `json:"memory" doc:"Resident memory of the gateway, largest of all rounds."`
}

// SetDefaults implements config.Defaulter.
func (r *Request) SetDefaults() { *r = Request{Method: "GET", Host: "localhost", Weight: 1} }

// NewProfile returns a profile with the defaults: 64 connections, 5 rounds of 2 s after
// half a second of warm-up, latency at 70% of the capacity, answers of 1 KiB at once.
func NewProfile() *Profile {
	return &Profile{
		Connections: 64, Rounds: 5, Duration: Duration(2 * time.Second), WarmUp: Duration(500 * time.Millisecond),
		Rate: Rate{Percent: 70}, Service: Service{BodyBytes: 1024, Status: 200},
	}
}

// Check implements config.Checker.
func (p *Profile) Check(r *config.Reporter) {
	if len(p.Requests) > requestsMax {
		r.Faultf("requests", "at most %d requests, got %d", requestsMax, len(p.Requests))
	}
	if p.Duration < Duration(100*time.Millisecond) || p.Duration > Duration(durationMax) {
		r.Faultf("duration", "should be between 100ms and %s, got %s", durationMax, time.Duration(p.Duration))
	}
	if n := p.Rate.PerSecond * time.Duration(p.Duration).Seconds(); p.Rate.PerSecond > 0 && n < plannedMin {
		r.Faultf("rate", "%s for %s is %.0f requests a measurement; at least %d are needed to tell latencies", p.Rate, time.Duration(p.Duration), n, plannedMin)
	}
	if p.Service.Latency > p.Duration/2 {
		r.Faultf("service.latency", "should be at most half of duration, which is %s, got %s", time.Duration(p.Duration), time.Duration(p.Service.Latency))
	}
	if p.WarmUp > Duration(durationMax) {
		r.Faultf("warm_up", "should be at most %s, got %s", durationMax, time.Duration(p.WarmUp))
	}
}

// Check implements config.Checker.
func (s *Service) Check(r *config.Reporter) {
	if s.Latency > Duration(latencyMax) {
		r.Faultf("latency", "should be at most %s, got %s", latencyMax, time.Duration(s.Latency))
	}
}

var (
	token  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	origin = regexp.MustCompile(`^/[!-~]*$`)
	host   = regexp.MustCompile(`^[0-9A-Za-z._:\[\]-]+$`)
)

// framingNames are header fields that the generator writes itself.
var framingNames = []string{"content-length", "transfer-encoding", "connection", "host", "expect", "upgrade"}

// Check implements config.Checker.
func (r *Request) Check(rep *config.Reporter) {
	if !token.MatchString(r.Method) || r.Method == "CONNECT" {
		rep.Faultf("method", "expected a method such as GET, got %q", r.Method)
	}
	if !origin.MatchString(r.Path) || strings.Contains(r.Path, "#") {
		rep.Faultf("path", "expected a path from / on, escaped as it goes over the wire, got %q", r.Path)
	}
	if !host.MatchString(r.Host) {
		rep.Faultf("host", "expected a host name or address, with or without a port, got %q", r.Host)
	}
	if r.Status != 0 && r.Status < 200 {
		rep.Faultf("status", "should be between 200 and 599, got %d", r.Status)
	}
	if len(r.Headers) > headersMax {
		rep.Faultf("headers", "at most %d fields, got %d", headersMax, len(r.Headers))
	}
	for name := range r.Headers {
		switch {
		case !token.MatchString(name):
			rep.Faultf("headers."+name, "%q is not a name of a header field", name)
		case strings.EqualFold(name, "host"):
			rep.Faultf("headers."+name, "the host of a request stands in its own field: host")
		case slices.Contains(framingNames, strings.ToLower(name)):
			rep.Faultf("headers."+name, "%s is written by the generator: leave it out", name)
		}
	}
}

// ReadProfile reads a profile in YAML or JSON. name stands in messages, env looks up the
// variables that header values name. The error is config.Faults, all of them at once.
func ReadProfile(name string, data []byte, env func(string) (string, bool)) (*Profile, error) {
	if len(data) > profileBytesMax {
		return nil, config.Faults{{File: name, Message: fmt.Sprintf("a profile may have %d bytes, got %d", profileBytesMax, len(data))}}
	}
	roots, err := config.Parse(config.Source{Name: name, Data: data}, true)
	if err != nil {
		return nil, err
	}
	p := NewProfile()
	if len(roots) != 1 {
		return nil, config.Faults{{File: name, Message: fmt.Sprintf("expected one profile, got %d YAML documents that say something", len(roots))}}
	}
	faults, _ := config.Decode(roots[0], p).Split()
	e := expander{env: env, root: roots[0], lines: strings.Split(string(data), "\n")}
	for i := range p.Requests {
		e.headers(fmt.Sprintf("requests[%d].headers", i), p.Requests[i].Headers)
	}
	if faults = append(faults, e.faults...); len(faults) > 0 {
		return nil, faults
	}
	return p, nil
}

// ReadProfileFile is ReadProfile for a file, with the environment of the process.
func ReadProfileFile(path string) (*Profile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return ReadProfile(path, data, os.LookupEnv)
}

// expander replaces ${VARIABLE} and ${VARIABLE:-default} in values of header fields.
type expander struct {
	env    func(string) (string, bool)
	root   *config.Node
	lines  []string
	faults config.Faults
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}`)

// headers expands the values of fields, which stands at path.
func (e *expander) headers(path string, fields map[string]string) {
	for name, text := range fields {
		missing := ""
		value := variable.ReplaceAllStringFunc(text, func(reference string) string {
			m := variable.FindStringSubmatch(reference)
			v, ok := e.env(m[1])
			fallback, has := strings.CutPrefix(m[2], ":-")
			if has && v == "" {
				return fallback
			}
			if !ok {
				missing = m[1]
			}
			return v
		})
		switch {
		case missing != "":
			e.fault(path+"."+name, "environment variable "+missing+" is not set; set it, or write ${"+missing+":-default}")
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			e.fault(path+"."+name, "a value must be one line without control characters")
		default:
			fields[name] = value
		}
	}
}

func (e *expander) fault(path, message string) {
	at := e.root.Lookup(path).Pos()
	f := config.Fault{File: at.File, Line: at.Line, Col: at.Col, Path: path, Message: message}
	if at.Line > 0 && at.Line <= len(e.lines) {
		f.SourceLine = strings.TrimRight(e.lines[at.Line-1], "\r")
	}
	e.faults = append(e.faults, f)
}
