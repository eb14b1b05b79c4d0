//go:build linux

package engine_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// of returns the tries that a condition holds for.
func of(tries []*try, holds func(*try) bool) []*try {
	return slices.DeleteFunc(slices.Clone(tries), func(y *try) bool { return !holds(y) })
}

// at returns those of a path.
func at(tries []*try, path string) []*try {
	return of(tries, func(y *try) bool { return y.path == path })
}

// with counts those of a status.
func with(tries []*try, status int) int {
	return len(of(tries, func(y *try) bool { return y.status == status }))
}

// refusal is Kong's body of an answer that the gateway makes.
func refusal(message string) *regexp.Regexp {
	return regexp.MustCompile(`^\{\n  "message":"` + message + `",\n  "request_id":"[0-9a-f]{32}"\n\}$`)
}

var (
	bodyExceeded = refusal("API rate limit exceeded")
	bodyBroken   = refusal("An unexpected error occurred")
)

// checkAnswered is that every request was answered by the service, or refused with what
// Kong says. window is the name in the headers.
func checkAnswered(t *testing.T, tries []*try, window string, limit int) {
	t.Helper()
	told := 0
	for _, y := range tries {
		var err error
		switch {
		case y.err != nil:
			err = y.err
		case y.status == http.StatusOK:
			if y.body != "served" {
				err = fmt.Errorf("body %q", y.body)
			}
		case y.status == http.StatusTooManyRequests:
			err = y.refused(window, limit)
		case y.status == http.StatusInternalServerError:
			if !bodyBroken.MatchString(y.body) || y.header.Get("X-Ratelimit-Limit-"+window) != "" {
				err = fmt.Errorf("body %q, header %v", y.body, y.header)
			}
		default:
			err = errors.New(y.body)
		}
		if err == nil {
			continue
		}
		if told++; told <= 3 {
			t.Errorf("%s: status %d after %s: %v", y.path, y.status, y.took(), err)
		}
	}
	if told > 3 {
		t.Errorf("… and %d more", told-3)
	}
}

// refused returns what a refusal lacks that Kong's has.
func (y *try) refused(window string, limit int) error {
	if !bodyExceeded.MatchString(y.body) || y.header.Get("Content-Type") != "application/json; charset=utf-8" {
		return fmt.Errorf("body %q of %q", y.body, y.header.Get("Content-Type"))
	}
	for name, want := range map[string]string{
		"X-Ratelimit-Limit-" + window: strconv.Itoa(limit), "X-Ratelimit-Remaining-" + window: "0",
		"Ratelimit-Limit": strconv.Itoa(limit), "Ratelimit-Remaining": "0",
	} {
		if got := y.header.Get(name); got != want {
			return fmt.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	reset, err := strconv.Atoi(y.header.Get("Ratelimit-Reset"))
	if err != nil || reset < 1 || y.header.Get("Retry-After") != y.header.Get("Ratelimit-Reset") {
		return fmt.Errorf("RateLimit-Reset %q, Retry-After %q", y.header.Get("Ratelimit-Reset"), y.header.Get("Retry-After"))
	}
	return nil
}

// clockSlack is how far clocks of processes on one machine, read in milliseconds, may
// be apart.
const clockSlack = 15 * time.Millisecond

// checkWindows is that fixed windows of a size each admitted exactly limit, but for the
// first and the last, which the load may not have filled. It returns how many there were.
func checkWindows(t *testing.T, tries []*try, window string, size time.Duration, limit, uncounted int) int {
	t.Helper()
	admitted := of(tries, func(y *try) bool { return y.status == http.StatusOK && y.header.Get("Ratelimit-Limit") != "" })
	if n := with(tries, http.StatusOK) - len(admitted); n != uncounted {
		t.Errorf("%d passed without headers, but %d were counted as such", n, uncounted)
	}
	left := make([]int, limit)
	for _, y := range admitted {
		n := y.remaining(window)
		if n < 0 || n >= limit {
			t.Fatalf("%d remaining of %d", n, limit)
		}
		left[n]++
	}
	windows, full := left[limit-1], left[0]
	// Each request that is admitted has another number left: the last one in a window 0.
	if windows-full > 2 || full == 0 {
		t.Errorf("%d windows, of which %d were filled", windows, full)
	}
	for n := 1; n < limit; n++ {
		if left[n] < left[n-1] {
			t.Errorf("%d requests had %d left, but %d had one less", left[n], n, left[n-1])
		}
	}
	checkFixed(t, admitted, size, limit, 0)
	return windows
}

// checkFixed is that no fixed window admitted more than limit of those that certainly
// lie in it, but for those that passed uncounted.
func checkFixed(t *testing.T, tries []*try, size time.Duration, limit, uncounted int) {
	t.Helper()
	inside := map[int64]int{}
	for _, y := range tries {
		if w := y.sent.Add(-clockSlack).Truncate(size); y.status == http.StatusOK && w.Equal(y.answered.Add(clockSlack).Truncate(size)) {
			inside[w.Unix()]++
		}
	}
	for w, n := range inside {
		if uncounted -= max(n-limit, 0); uncounted < 0 {
			t.Errorf("the window %d admitted %d, more than %d", w, n, limit)
		}
	}
}

// checkSliding is that no request was admitted that the formula forbids,
//
//	current + previous × (size − elapsed) / size
//
// by what is certain: a request has the time between that it was sent and answered, and
// counts for another if it was answered before that was sent.
func checkSliding(t *testing.T, tries []*try, size time.Duration, limit int) {
	t.Helper()
	admitted := of(tries, func(y *try) bool { return y.status == http.StatusOK })
	begin := func(y time.Time) time.Time { return y.Truncate(size) }
	worst, possible := 0.0, 0.0 // the highest that is certain, and that a gateway may have seen
	for _, y := range admitted {
		start := begin(y.sent.Add(-clockSlack))
		if !start.Equal(begin(y.answered.Add(clockSlack))) {
			continue // in either of two windows
		}
		current, previous := 1, 0
		mayCurrent, mayPrevious := 0, 0
		for _, o := range admitted {
			switch {
			case o.sent.After(y.answered) || o.answered.Before(start.Add(-clockSlack-size)):
			case o.answered.After(start.Add(-clockSlack)):
				mayCurrent++
			default:
				mayPrevious++
			}
			switch {
			case o.answered.After(y.sent):
			case !o.sent.Before(start.Add(clockSlack)):
				current++
			case !o.sent.Before(start.Add(clockSlack-size)) && o.answered.Before(start.Add(-clockSlack)):
				previous++
			}
		}
		elapsed := y.answered.Add(clockSlack).Sub(start)
		rate := float64(current) + float64(previous)*max(0, float64(size-elapsed)/float64(size))
		left := min(size, start.Add(size).Sub(y.sent.Add(-clockSlack)))
		possible = max(possible, float64(mayCurrent)+float64(mayPrevious)*float64(left)/float64(size))
		if worst = max(worst, rate); rate > float64(limit) {
			t.Errorf("admitted as the %dth after %s of a window, with %d in the one before: %.1f of %d", current, elapsed, previous, rate, limit)
		}
	}
	// What is certain falls short of what the gateways saw by the time that requests took.
	if worst < 0.5*float64(limit) || possible < 0.8*float64(limit) {
		t.Errorf("the formula never came to more than %.1f for certain and %.1f at most, of %d", worst, possible, limit)
	}
}

// slowest returns the longest time that a request took.
func slowest(tries []*try) (d time.Duration) {
	for _, y := range tries {
		d = max(d, y.took())
	}
	return d
}

// checkWaits is that none waited for longer than the timeout of a call, and hardly any
// waited at all of those that were sent from a time to another, when Redis was known to
// be away. What requests for /free took, which ask no Redis, is what the machine cost.
func checkWaits(t *testing.T, tries []*try, from, to time.Time) {
	t.Helper()
	busy := slowest(at(tries, "/free"))
	if d := slowest(tries); d > redisTimeout+waitSlack+busy {
		t.Errorf("a request took %s, the timeout of Redis is %s; without it, one took %s", d, redisTimeout, busy)
	}
	var took []time.Duration
	for _, y := range tries {
		if y.sent.After(from) && y.sent.Before(to) {
			took = append(took, y.took())
		}
	}
	slices.Sort(took)
	if n := len(took); n > 0 && took[n*9/10] > 50*time.Millisecond+busy || n == 0 && from.Before(to) {
		t.Errorf("while Redis was known to be away: %d requests took %v; without Redis, one took %s", n, took, busy)
	}
}
