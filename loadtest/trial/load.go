package trial

import (
	"fmt"
	"time"
)

// load is one run of the generator against one address.
type load struct {
	address     string
	shots       []shot
	order       []uint16 // indices of shots, walked round and round
	connections int
	perSecond   float64 // 0: each connection sends as soon as it has its answer
	warmUp      time.Duration
	duration    time.Duration
	patience    time.Duration // how long an answer is waited for
	cpus        []int         // for the generator's thread, nil to stay where it is
	// mark is called when what counts begins and when it ends, nil for nobody.
	mark func()
}

// patience is how long the answers of a trial are waited for.
const patience = 10 * time.Second

// outcome is what became of the requests that count: those answered between warm-up and
// end, or with a rate, those planned then.
type outcome struct {
	planned  uint64 // with a rate; each of them is answered or failed
	answered uint64 // as expected
	failed   uint64
	failures [failureKinds]uint64
	first    string // the first failure, in words

	latency Histogram // of all of them; failures count what they took, too
	elapsed time.Duration
	own     time.Duration // CPU time of the generator's thread

	late    uint64        // sent more than lateness after their planned time
	waited  uint64        // of those: because no connection was free
	lateMax time.Duration // the longest such wait
}

// lateness is from when on a request counts as late: within it lies what a busy machine
// needs to wake a thread.
const lateness = 2 * time.Millisecond

// perSecond is the rate of good answers.
func (o *outcome) perSecond() float64 { return float64(o.answered) / o.elapsed.Seconds() }

// failure is why a request did not come out.
type failure uint8

const (
	wrongStatus failure = iota
	wrongBody
	brokenConnection
	malformedAnswer
	noAnswer
	neverSent
	failureKinds
)

var failureNames = [failureKinds]string{
	"another status", "another body", "connection broken", "malformed answer", "no answer in time", "never sent: no connection was free",
}

// explain lists the failures by kind, "" without any.
func (o *outcome) explain() string {
	text := ""
	for kind, n := range o.failures {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, failureNames[kind])
		}
	}
	if text == "" {
		return ""
	}
	text = text[2:]
	if o.first != "" {
		text += " (the first: " + o.first + ")"
	}
	return text
}
