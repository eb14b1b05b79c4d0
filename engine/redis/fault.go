package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/redis/rueidis"
)

// The ways in which a call fails. They are told apart with errors.Is.
var (
	// ErrAway says that there is no Redis to ask: it could not be reached a moment
	// ago and has not been heard of since. The call was not sent, or the connection
	// broke under it.
	ErrAway = errors.New("redis: away")
	// ErrTimeout says that no answer came in time. What was asked for may be done or
	// not, now or later.
	ErrTimeout = errors.New("redis: no answer in time")
	// ErrFull says that too many calls, or too many bytes of values, wait already. The
	// call was not sent.
	ErrFull = errors.New("redis: too many calls wait")
	// ErrRefused says that Redis does not let us: login or access control.
	ErrRefused = errors.New("redis: refused")
	// ErrAnswer says that Redis answered with an error, such as one about the type
	// of a key or in a script, or with something else than was asked for.
	ErrAnswer = errors.New("redis: error in the answer")
	// ErrTooLarge says that a value is longer than ValueMax. One to be stored was not
	// sent; one that is stored was not handed over.
	ErrTooLarge = errors.New("redis: value too large")
	// ErrClosed says that the client has been closed.
	ErrClosed = errors.New("redis: closed")
)

// fault is the kind of an error, for metrics.
type fault uint8

const (
	faultAway fault = iota
	faultTimeout
	faultFull
	faultRefused
	faultAnswer
	faultClosed
	faultTooLarge
	faults
)

var (
	faultNames  = [faults]string{"away", "timeout", "full", "refused", "answer", "closed", "too_large"}
	faultErrors = [faults]error{ErrAway, ErrTimeout, ErrFull, ErrRefused, ErrAnswer, ErrClosed, ErrTooLarge}
)

// answered is an error with the words of Redis.
type answered struct {
	kind fault
	text string
}

func (e *answered) Error() string { return faultErrors[e.kind].Error() + ": " + e.text }
func (e *answered) Unwrap() error { return faultErrors[e.kind] }

// classify tells what kind of failure err is, and whether the Redis that gave it
// is one that should not be asked again for a while.
func classify(err error) (kind fault, gone bool) {
	if e, ok := rueidis.IsRedisErr(err); ok {
		return classifyAnswer(e.Error())
	}
	switch {
	case rueidis.IsRedisNil(err), rueidis.IsParseErr(err):
		return faultAnswer, false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return faultTimeout, true
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return faultAway, true
	}
	return faultAway, true
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// classifyAnswer reads the first word of an error of Redis: by convention its kind.
func classifyAnswer(text string) (kind fault, gone bool) {
	word, _, _ := strings.Cut(text, " ")
	switch word {
	case "NOAUTH", "WRONGPASS":
		return faultRefused, true
	case "NOPERM":
		return faultRefused, false
	case "LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED":
		// Asked the wrong one, or too early. READONLY is a master that has become
		// a replica: connecting again asks the Sentinels who is master now.
		return faultAway, true
	case "MOVED", "ASK":
		return faultAway, false
	case "BUSY":
		return faultTimeout, true
	}
	return faultAnswer, false
}

// describe is err as one of a kind, in its own words.
func describe(kind fault, err error) error { return &answered{kind, err.Error()} }

// kindOf tells the kind of an error of this package, and whether it is one.
func kindOf(err error) (fault, bool) {
	for kind, e := range faultErrors {
		if errors.Is(err, e) {
			return fault(kind), true
		}
	}
	return 0, false
}
