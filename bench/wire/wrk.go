package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// wrkGrace is what wrk gets beyond its duration to start, to connect and to print.
const wrkGrace = 20 * time.Second

// load is what wrk says about one run.
type load struct {
	requests     int64
	duration     time.Duration
	bytesRead    float64 // rounded by wrk to three or more digits
	perSecond    float64
	p50, p99     time.Duration
	socketErrors int64 // connect, read, write and timeout
	badStatuses  int64 // 400 and above

	cpu time.Duration // used by wrk itself
}

// runWrk sends the requests of g to url for the given number of seconds from the load CPUs.
func runWrk(ctx context.Context, l *lab, g *group, url string, seconds int) (*load, error) {
	p, err := start(l.dir, &program{name: "wrk", cpus: l.o.loadCPUs, args: []string{
		l.found[wrkTool], "-t1", "-c", strconv.Itoa(l.o.connectionsOf(g)), "-d", strconv.Itoa(seconds) + "s", "--latency",
		"-s", l.script, url, l.requests[g].path, strconv.FormatBool(g.fresh),
	}})
	if err != nil {
		return nil, err
	}
	waitErr := p.wait(ctx, time.Duration(seconds)*time.Second+wrkGrace)
	if err := errors.Join(waitErr, p.stop()); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return nil, err
	}
	w, err := parseWrk(string(text))
	if err != nil {
		return nil, err
	}
	w.cpu = p.cpu
	return w, nil
}

// check returns an error unless every answer was a good one and a whole one.
func (w *load) check(bodyBytes int) error {
	switch {
	case w.socketErrors > 0:
		return fmt.Errorf("wrk: %d socket errors in %d requests", w.socketErrors, w.requests)
	case w.badStatuses > 0:
		return fmt.Errorf("wrk: %d answers of %d were not 2xx", w.badStatuses, w.requests)
	case w.requests == 0:
		return errors.New("wrk: no request completed")
	case w.bytesRead/float64(w.requests) < 0.99*float64(bodyBytes): // wrk rounds it
		// wrk counts a redirect as good; it is shorter than the body.
		return fmt.Errorf("wrk: %.0f bytes per answer, the body alone has %d", w.bytesRead/float64(w.requests), bodyBytes)
	}
	return nil
}

var (
	wrkTotal     = regexp.MustCompile(`(?m)^ +(\d+) requests in ([\d.]+[a-z]+), ([\d.]+)([KMGTP]?B) read$`)
	wrkPerSecond = regexp.MustCompile(`(?m)^Requests/sec: +([\d.]+)$`)
	wrkErrors    = regexp.MustCompile(`(?m)^ +Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$`)
	wrkStatuses  = regexp.MustCompile(`(?m)^ +Non-2xx or 3xx responses: (\d+)$`)
	wrkP50       = regexp.MustCompile(`(?m)^ +50% +([\d.]+[a-z]+)$`)
	wrkP99       = regexp.MustCompile(`(?m)^ +99% +([\d.]+[a-z]+)$`)
)

// parseWrk reads the output of wrk --latency. The lines about errors are there only
// when there were some; every other line is required.
func parseWrk(text string) (*load, error) {
	w := &load{}
	total, rate := wrkTotal.FindStringSubmatch(text), wrkPerSecond.FindStringSubmatch(text)
	p50, p99 := wrkP50.FindStringSubmatch(text), wrkP99.FindStringSubmatch(text)
	if total == nil || rate == nil || p50 == nil || p99 == nil {
		return nil, fmt.Errorf("wrk: no result in its output:\n%s", text)
	}
	var errs [5]error
	w.requests, errs[0] = strconv.ParseInt(total[1], 10, 64)
	w.duration, errs[1] = parseWrkTime(total[2])
	w.perSecond, errs[2] = strconv.ParseFloat(rate[1], 64)
	w.p50, errs[3] = parseWrkTime(p50[1])
	w.p99, errs[4] = parseWrkTime(p99[1])
	number, err := strconv.ParseFloat(total[3], 64)
	if err := errors.Join(append(errs[:], err)...); err != nil {
		return nil, fmt.Errorf("wrk: %w", err)
	}
	// Units are powers of 1024.
	w.bytesRead = number
	for range strings.Index("BKMGTP", total[4][:1]) {
		w.bytesRead *= 1024
	}
	for _, lines := range []struct {
		match []string
		sum   *int64
	}{
		{wrkErrors.FindStringSubmatch(text), &w.socketErrors},
		{wrkStatuses.FindStringSubmatch(text), &w.badStatuses},
	} {
		for i := 1; i < len(lines.match); i++ {
			n, err := strconv.ParseInt(lines.match[i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("wrk: %w", err)
			}
			*lines.sum += n
		}
	}
	return w, nil
}

// parseWrkTime reads wrk's us, ms, s, m and h, which are also Go's.
func parseWrkTime(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("bad time %q", text)
	}
	return d, nil
}
