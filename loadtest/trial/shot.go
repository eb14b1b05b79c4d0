package trial

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
)

// shot is a request as it goes over the wire and what must come back.
type shot struct {
	name   string
	wire   []byte
	method string
	status int
	// digest is of the answer's body, compared where steady says that two answers had
	// the same one.
	digest uint64
	steady bool
}

// newShots renders requests. Where one names no status, status is expected.
func newShots(requests []Request, status int) []shot {
	shots := make([]shot, len(requests))
	for i := range requests {
		r := &requests[i]
		s := &shots[i]
		s.method, s.status, s.name = r.Method, r.Status, r.title()
		if s.status == 0 {
			s.status = status
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.Path, r.Host)
		for _, name := range sortedKeys(r.Headers) {
			fmt.Fprintf(&b, "%s: %s\r\n", name, r.Headers[name])
		}
		if r.Body != "" || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch {
			b.WriteString("Content-Length: " + strconv.Itoa(len(r.Body)) + "\r\n")
		}
		b.WriteString("\r\n" + r.Body)
		s.wire = b.Bytes()
	}
	return shots
}

// title names r in reports.
func (r *Request) title() string {
	if r.Name != "" {
		return r.Name
	}
	if r.Host == "localhost" {
		return r.Method + " " + r.Path
	}
	return r.Method + " " + r.Host + r.Path
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// orderOf mixes the requests by their weights: each index as often as its weight, in an
// order that looks random and is the same every time.
func orderOf(requests []Request) []uint16 {
	var order []uint16
	for i := range requests {
		for range requests[i].Weight {
			order = append(order, uint16(i))
		}
	}
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // not a secret: the same for every run, which makes runs comparable
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return order
}

// tryTimeout bounds one request of try.
const tryTimeout = 15 * time.Second

// wrongBytesMax is how much of an unexpected answer's body is shown.
const wrongBytesMax = 300

// wrongAnswer is an answer with another status than the profile expects.
type wrongAnswer struct {
	shot   *shot
	status int
	body   []byte
}

func (w *wrongAnswer) Error() string {
	body := bytes.TrimSpace(w.body[:min(len(w.body), wrongBytesMax)])
	return fmt.Sprintf("request %q: expected status %d, got %d with the body %q; %s", w.shot.name, w.shot.status, w.status, body, w.advice())
}

// advice says what would make the answer right.
func (w *wrongAnswer) advice() string {
	switch w.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("give the request the headers that the route's plugins ask for, or say status: %d if that is what is to be measured", w.status)
	case http.StatusTooManyRequests:
		return "raise the limit for the trial with an --overlay, or spread the requests over more credentials"
	case http.StatusNotFound:
		return "no route may match: sluice explain says which one does"
	}
	return fmt.Sprintf("say status: %d if that is what is to be measured", w.status)
}

// try sends every shot twice to address, one after the other, checks the statuses, and
// notes the digests of bodies that stay the same.
func try(ctx context.Context, address string, shots []shot) error {
	dialer := net.Dialer{Timeout: tryTimeout}
	for i := range shots {
		s := &shots[i]
		var digests [2]uint64
		for j := range digests {
			status, body, err := sendOnce(ctx, &dialer, address, s)
			if err != nil {
				return fmt.Errorf("request %q: %w", s.name, err)
			}
			if status != s.status {
				return &wrongAnswer{s, status, body}
			}
			digests[j] = xxhash.Sum64(body)
		}
		s.digest, s.steady = digests[0], digests[0] == digests[1]
	}
	return nil
}

func sendOnce(ctx context.Context, d *net.Dialer, address string, s *shot) (status int, body []byte, err error) {
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.SetDeadline(time.Now().Add(tryTimeout)); err != nil {
		return 0, nil, err
	}
	if _, err := c.Write(s.wire); err != nil {
		return 0, nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: s.method})
	if err != nil {
		return 0, nil, fmt.Errorf("no answer: %w", err)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, 4*bodyBytesMax))
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}
