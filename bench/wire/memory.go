package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// idleCost is what a kept connection costs that nobody uses.
type idleCost struct {
	row         string
	connections int
	bytes       float64 // of the subject's memory for each
}

// idleSettle is how long connections are left alone before they are weighed: programs
// that give memory back after a while of rest have done it by then.
const idleSettle = 3 * time.Second

// measureIdle weighs idle connections of every row of the table of proxies, if the flags
// ask for it.
func measureIdle(ctx context.Context, l *lab) ([]*idleCost, error) {
	if l.o.idle == 0 {
		return nil, nil
	}
	var all []*idleCost
	for _, name := range proxied.among(l.o.subjects) {
		i, err := weighIdle(ctx, l, name)
		if err != nil {
			return nil, fmt.Errorf("idle connections of %s: %w", name, err)
		}
		all = append(all, i)
	}
	return all, nil
}

// weighIdle compares a warm subject's memory without and with idle connections.
func weighIdle(ctx context.Context, l *lab, name string) (i *idleCost, err error) {
	r, err := startWarm(ctx, l, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.process.stop()) }()
	if err := rest(ctx); err != nil {
		return nil, err
	}
	before, err := readResident(r.process.pid)
	if err != nil {
		return nil, err
	}
	conns, err := openIdle(ctx, l, r)
	defer func() {
		for _, c := range conns {
			_ = c.Close() // only read from
		}
	}()
	if err == nil {
		err = rest(ctx)
	}
	if err != nil {
		return nil, r.process.explain(err)
	}
	after, err := readResident(r.process.pid)
	if err != nil {
		return nil, err
	}
	return &idleCost{row: name, connections: len(conns), bytes: float64(after-before) / float64(len(conns))}, nil
}

func rest(ctx context.Context) error {
	select {
	case <-time.After(idleSettle):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// openIdle opens connections, each of which gets one good answer. The caller closes those
// that it returns, also with an error.
func openIdle(ctx context.Context, l *lab, r *running) ([]net.Conn, error) {
	line := l.requests[r.group].lines[0]
	address := strings.TrimPrefix(r.url, "http://")
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\napikey: %s\r\n\r\n", line.path, address, line.key)
	var dialer net.Dialer
	conns := make([]net.Conn, 0, l.o.idle)
	buffer := bufio.NewReader(nil)
	for range l.o.idle {
		ctx, cancel := context.WithTimeout(ctx, requestMax)
		c, err := dialer.DialContext(ctx, "tcp4", address)
		cancel()
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
		if err := c.SetDeadline(time.Now().Add(requestMax)); err != nil {
			return conns, err
		}
		if _, err := io.WriteString(c, request); err != nil {
			return conns, err
		}
		buffer.Reset(c)
		resp, err := http.ReadResponse(buffer, nil)
		if err != nil {
			return conns, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return conns, err
		}
		if resp.StatusCode != http.StatusOK {
			return conns, fmt.Errorf("GET %s: want status 200, got %d", line.path, resp.StatusCode)
		}
	}
	return conns, nil
}

// readResident returns the memory of a process and its descendants in bytes; pages that
// several processes share are divided among them (Pss).
func readResident(pid int) (int64, error) {
	tree, err := processTree(pid)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for p := range tree {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			return 0, err
		}
		n, err := parsePss(string(text))
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", p, err)
		}
		total += n
	}
	return total, nil
}

// parsePss reads the Pss of smaps_rollup, in bytes.
func parsePss(text string) (int64, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, "Pss:")
		if !ok {
			continue
		}
		fields := strings.Fields(value)
		if len(fields) != 2 || fields[1] != "kB" {
			break
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		return n << 10, err
	}
	return 0, fmt.Errorf("no Pss in %q", text)
}
