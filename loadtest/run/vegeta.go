package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	resultsMax    = 20_000_000 // of one attack
	overrun       = time.Second
	attackTimeout = 10 * time.Second // of one request
)

// attack runs vegeta and returns its results, in the order in which they came.
func (l *lab) attack(ctx context.Context, w *load) (*attackLog, error) {
	targets := filepath.Join(l.dir, w.name+".targets")
	if err := l.writeTargets(targets, w.direct); err != nil {
		return nil, err
	}
	raw := filepath.Join(l.dir, w.name+".bin")
	workers := strconv.Itoa(w.connections)
	duration := w.duration
	if w.rate > 0 {
		duration += overrun
	}
	err := l.runTool(ctx, &program{name: "vegeta", cpus: l.cpus.rest, args: []string{
		l.built.vegeta, "attack", "-targets", targets, "-output", raw, "-rate", strconv.Itoa(w.rate) + "/1s",
		// Longer than asked: what a stall at the end made late is late, but not dropped.
		"-duration", duration.String(), "-timeout", attackTimeout.String(),
		"-workers", workers, "-max-workers", workers, "-connections", workers, "-max-body", "0", "-redirects", "-1",
	}}, duration+attackTimeout+stopGrace)
	if err != nil {
		return nil, err
	}
	table := filepath.Join(l.dir, w.name+".csv")
	err = l.runTool(ctx, &program{name: "vegeta", cpus: l.cpus.rest, args: []string{
		l.built.vegeta, "encode", "-to", "csv", "-output", table, raw,
	}}, time.Minute+2*w.duration)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(table)
	if err != nil {
		return nil, err
	}
	log, err := readAttack(f)
	// The results themselves are large, and everything that is told comes from the log.
	return log, errors.Join(err, f.Close(), os.Remove(table), os.Remove(raw))
}

// runTool runs p to its end, at most limit.
func (l *lab) runTool(ctx context.Context, p *program, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s still runs after %s", p.name, limit))
	defer cancel()
	c, err := l.spawn.start(p)
	if err != nil {
		return err
	}
	select {
	case <-c.exited:
		if c.err != nil {
			return c.explain(c.err)
		}
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), c.stop())
	}
}

// attackLog is what an attack left.
type attackLog struct {
	results  []result
	statuses map[string]int
	errors   []string // the first faultsMax different ones
}

// readAttack reads vegeta's CSV: time, status, latency, bytes out and in, error, body,
// name, sequence number, and more that is not needed. An answer is a failure if there was
// none, or its status is not 2xx.
func readAttack(in io.Reader) (*attackLog, error) {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	r.FieldsPerRecord = -1
	log := &attackLog{statuses: map[string]int{}}
	for line := 1; ; line++ {
		fields, err := r.Read()
		if err == io.EOF {
			return log, nil
		}
		if err != nil {
			return nil, fmt.Errorf("results of vegeta: %w", err)
		}
		if len(fields) < 9 || len(log.results) >= resultsMax {
			return nil, fmt.Errorf("results of vegeta, line %d: want at least 9 fields, got %d, and at most %d lines", line, len(fields), resultsMax)
		}
		sent, e1 := strconv.ParseInt(fields[0], 10, 64)
		latency, e2 := strconv.ParseInt(fields[2], 10, 64)
		seq, e3 := strconv.ParseUint(fields[8], 10, 64)
		if err := errors.Join(e1, e2, e3); err != nil {
			return nil, fmt.Errorf("results of vegeta, line %d: %w", line, err)
		}
		status := strings.Clone(fields[1])
		log.statuses[status]++
		failed := !strings.HasPrefix(status, "2") || fields[5] != ""
		log.results = append(log.results, result{seq: seq, sent: time.Duration(sent), latency: time.Duration(latency), failed: failed})
		if failed {
			log.fault(status + " " + fields[5])
		}
	}
}

func (a *attackLog) fault(text string) {
	if len(a.errors) < faultsMax && !slices.Contains(a.errors, text) {
		a.errors = append(a.errors, strings.Clone(text))
	}
}

// writeTargets renders the scenario's targets.txt: ${GATEWAY} is the address, ${UPLOAD}
// a file of upload_bytes bytes, and ${N} counts from 0 through the repetitions, in an
// order that does not walk the document from its top to its end. A direct attack asks
// the service itself for the same kind of answer.
func (l *lab) writeTargets(path string, direct bool) error {
	if direct {
		return os.WriteFile(path, []byte("GET http://"+l.stubs[0]+directPath+"\n"), 0o644)
	}
	text, err := os.ReadFile(filepath.Join(l.sc.dir, "targets.txt"))
	if err != nil {
		return err
	}
	upload := filepath.Join(l.dir, "upload.bin")
	if l.sc.UploadBytes > 0 {
		if err := os.WriteFile(upload, make([]byte, l.sc.UploadBytes), 0o644); err != nil {
			return err
		}
	}
	one := strings.NewReplacer("${GATEWAY}", "http://"+l.proxy, "${UPLOAD}", upload).Replace(strings.TrimSpace(string(text)))
	var b strings.Builder
	for i := range l.sc.Repeat {
		b.WriteString(strings.ReplaceAll(one, "${N}", strconv.Itoa(i*stride(l.sc.Repeat)%l.sc.Repeat)))
		b.WriteString("\n\n")
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// directPath is what the service is asked for without the gateway.
const directPath = "/bytes/1024"

// stride returns a step that has no divisor in common with n, near 0.618 n: multiples
// of it modulo n visit every number once, far from the one before.
func stride(n int) int {
	for s := max(n*618/1000, 1); ; s++ {
		a, b := s, n
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return s
		}
	}
}

// open runs one open-model point with vegeta.
func (l *lab) open(ctx context.Context, w *load) (*Point, error) {
	log, err := l.attack(ctx, w)
	if err != nil {
		return nil, err
	}
	p, err := planned(log.results, w.rate, w.duration)
	if err != nil {
		return nil, err
	}
	p.Statuses, p.Errors = log.statuses, log.errors
	return p, nil
}

// closed finds how many good answers per second connections can get, one after another.
func (l *lab) closed(ctx context.Context, w *load) (float64, error) {
	log, err := l.attack(ctx, w)
	if err != nil {
		return 0, err
	}
	rate, err := capacity(log.results)
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, strings.Join(log.errors, "; "))
	}
	return rate, nil
}
