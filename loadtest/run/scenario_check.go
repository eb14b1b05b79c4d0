package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of what a scenario may ask for.
const (
	servicesMax    = 8
	generatedMax   = 100_000
	repeatMax      = 100_000
	uploadBytesMax = 64 << 20
	rateMax        = 1_000_000
	connectionsMax = 10_000
	pointsMax      = 20
	durationMax    = 24 * time.Hour
	slowMax        = 5_000
	roundsMax      = 50
	everyMin       = 10 * time.Millisecond
)

// checker collects the faults of a scenario's values with their lines.
type checker struct {
	file   string
	root   *yaml.Node
	faults []error
}

// fault notes that the value at path (such as "profiles.smoke.rates") is wrong.
func (c *checker) fault(path, format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf("%s:%d: %s: %s", c.file, c.line(path), path, fmt.Sprintf(format, args...)))
}

// line returns where path is in the file, or where the deepest part of it that exists is.
func (c *checker) line(path string) int {
	n := c.root
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	line := max(n.Line, 1)
	for part := range strings.SplitSeq(path, ".") {
		next := child(n, part)
		if next == nil {
			break
		}
		n, line = next, next.Line
	}
	return line
}

func child(n *yaml.Node, part string) *yaml.Node {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == part {
				return n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
	}
	return nil
}

// within notes a fault unless low <= n <= high.
func (c *checker) within(path string, n, high int) {
	if n < 1 || n > high {
		c.fault(path, "must be 1 to %d, got %d", high, n)
	}
}

func (c *checker) pause(path string, d time.Duration) {
	if d < everyMin || d > time.Hour {
		c.fault(path, "must be %s to 1h, got %s", everyMin, d)
	}
}

func (c *checker) scenario(s *Scenario) {
	if s.About == "" {
		c.fault("about", "must say in one line what the scenario shows")
	}
	script := map[string]string{"vegeta": "targets.txt", "k6": "script.js"}[s.Generator]
	if script == "" {
		c.fault("generator", "must be vegeta or k6, got %q", s.Generator)
	}
	for _, f := range []string{"sluice.yaml", script} {
		if _, err := os.Stat(filepath.Join(s.dir, f)); err != nil {
			c.fault("generator", "the folder lacks %s, which is needed: %v", f, err)
		}
	}
	c.within("services", s.Services, servicesMax)
	c.within("repeat", s.Repeat, repeatMax)
	c.generate(&s.Generate)
	if s.UploadBytes < 0 || s.UploadBytes > uploadBytesMax {
		c.fault("upload_bytes", "must be 0 to %d, got %d", uploadBytesMax, s.UploadBytes)
	}
	if len(s.Profiles) == 0 || !slices.Contains(profilesOf(s), "smoke") {
		c.fault("profiles", "must have the profile smoke")
	}
	for name, p := range s.Profiles {
		c.profile(name, &p, s)
	}
	c.thresholds("thresholds", &s.Thresholds)
	c.checks(s.Checks)
	c.events(s)
	if w := s.SlowClients; w != nil {
		c.within("slow_clients.count", w.Count, slowMax)
		c.within("slow_clients.bytes", w.Bytes, 1<<20)
		c.pause("slow_clients.every", w.Every)
		c.path("slow_clients.path", w.Path)
	}
	if s.Scrape != nil {
		c.pause("scrape.every", s.Scrape.Every)
		c.within("scrape.rounds", s.Scrape.Rounds, roundsMax)
		if s.Generator != "vegeta" {
			c.fault("scrape", "needs the generator vegeta, which knows when a request was planned")
		}
	}
	for i, n := range s.Counts {
		path := fmt.Sprintf("counts.%d", i)
		c.path(path+".prefix", n.Prefix)
		c.within(path+".most_per_path", int(n.MostPerPath), 1<<31-1)
	}
}

func (c *checker) generate(g *Generate) {
	if g.Routes < 0 || g.Routes > generatedMax {
		c.fault("generate.routes", "must be 0 to %d, got %d", generatedMax, g.Routes)
	}
	if g.Consumers < 0 || g.Consumers > generatedMax {
		c.fault("generate.consumers", "must be 0 to %d, got %d", generatedMax, g.Consumers)
	}
	if g.Routes > 0 && g.Service == "" {
		c.fault("generate.service", "must name the service of the document that the routes lead to")
	}
}

func (c *checker) path(path, value string) {
	if !strings.HasPrefix(value, "/") {
		c.fault(path, "must begin with /, got %q", value)
	}
}

func (c *checker) profile(name string, p *Profile, s *Scenario) {
	path := "profiles." + name
	if !slices.Contains(profileNames, name) {
		c.fault(path, "no such profile; there are: %s", strings.Join(profileNames, ", "))
	}
	if p.Duration < time.Second || p.Duration > durationMax {
		c.fault(path+".duration", "must be 1s to %s, got %s", durationMax, p.Duration)
	}
	c.within(path+".connections", p.Connections, connectionsMax)
	points := len(p.Rates) + len(p.Percents)
	if (len(p.Rates) == 0) == (len(p.Percents) == 0) || points > pointsMax {
		c.fault(path, "must have either rates or percents, 1 to %d of them, got %d and %d", pointsMax, len(p.Rates), len(p.Percents))
	}
	if len(p.Percents) > 0 && s.Generator != "vegeta" {
		c.fault(path+".percents", "needs the generator vegeta, with which capacity is found; give rates")
	}
	if s.Scrape != nil && points != 1 {
		c.fault(path, "must have one rate or percentage, because scrape compares points, got %d", points)
	}
	for _, r := range p.Rates {
		c.within(path+".rates", r, rateMax)
	}
	for _, r := range p.Percents {
		c.within(path+".percents", r, 1000)
	}
	c.thresholds(path+".thresholds", &p.Thresholds)
}

func (c *checker) thresholds(path string, t *Thresholds) {
	for name, d := range map[string]*time.Duration{"p95": t.P95, "p99": t.P99, "reload_time": t.ReloadTime} {
		if d != nil && *d <= 0 {
			c.fault(path+"."+name, "must be positive, got %s", *d)
		}
	}
	if t.Failures != nil && (*t.Failures < 0 || *t.Failures > 100) {
		c.fault(path+".failures", "must be 0 to 100 percent, got %g", *t.Failures)
	}
	for name, n := range map[string]*int{"dropped": t.Dropped, "up_to": t.UpTo, "memory_growth": t.MemoryGrowth, "slow_failures": t.SlowFailures} {
		if n != nil && *n < 0 {
			c.fault(path+"."+name, "must not be negative, got %d", *n)
		}
	}
	for name, r := range map[string]*float64{"scrape_ratio": t.ScrapeRatio, "direct_ratio": t.DirectRatio} {
		if r != nil && *r < 1 {
			c.fault(path+"."+name, "must be at least 1, got %g", *r)
		}
	}
}

func (c *checker) checks(checks []Check) {
	if len(checks) == 0 {
		c.fault("checks", "must have at least one request whose answer is known: a fast wrong answer is not throughput")
	}
	for i := range checks {
		path := fmt.Sprintf("checks.%d", i)
		c.path(path+".path", checks[i].Path)
		if sum := checks[i].SHA256; sum != "" {
			if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
				c.fault(path+".sha256", "must be 64 hexadecimal digits, got %q", sum)
			}
		}
		if s := checks[i].Status; s != 0 && (s < 100 || s > 599) {
			c.fault(path+".status", "must be 100 to 599, got %d", s)
		}
	}
}

func (c *checker) events(s *Scenario) {
	for i, e := range s.Events {
		path := fmt.Sprintf("events.%d", i)
		switch {
		case !slices.Contains(deeds, e.Do):
			c.fault(path+".do", "must be one of %s, got %q", strings.Join(deeds, ", "), e.Do)
		case strings.HasSuffix(e.Do, "redis") && !s.Redis:
			c.fault(path+".do", "%s needs redis: true", e.Do)
		}
		if e.Service < 0 || e.Service >= s.Services {
			c.fault(path+".service", "must be 0 to %d, got %d", s.Services-1, e.Service)
		}
		switch {
		case (e.At == 0) == (e.Every == 0):
			c.fault(path, "must have either at, in percent of the duration, or every")
		case e.Every != 0:
			c.pause(path+".every", e.Every)
		default:
			c.within(path+".at", e.At, 99)
		}
	}
}

// profilesOf lists the profiles s has, in the usual order.
func profilesOf(s *Scenario) []string {
	return slices.DeleteFunc(slices.Clone(profileNames), func(name string) bool {
		_, ok := s.Profiles[name]
		return !ok
	})
}
