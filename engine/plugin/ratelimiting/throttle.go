package ratelimiting

import (
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// throttle lets refused requests wait and try again. A waiting request keeps the
// goroutine of its connection, which is why their number is bounded.
type throttle struct {
	interval time.Duration
	times    int
	queue    int64
}

func newThrottle(t *Throttling) *throttle {
	if t == nil {
		return nil
	}
	return &throttle{interval: seconds(t.Interval), times: t.RetryTimes, queue: int64(t.QueueLimit)}
}

// again takes the turn of a refused request later, as often as its settings say, and
// returns what became of it when. It blocks: the operator asked for that.
func (l *limit) again(x *pipeline.Exchange, now, cost int64, used []int64) (decision, int64) {
	t := l.throttle
	if l.waiting.Add(1) > t.queue {
		l.waiting.Add(-1)
		l.overflows.Inc()
		return refused, now
	}
	defer l.waiting.Add(-1)
	l.delayed.Inc()
	d := refused
	timer := time.NewTimer(t.interval)
	defer timer.Stop()
	for i := range t.times {
		if i > 0 {
			timer.Reset(t.interval)
		}
		<-timer.C
		now += t.interval.Milliseconds()
		if d = l.take(x, now, cost, used); d == admitted || d == undecided {
			break
		}
	}
	return d, now
}
