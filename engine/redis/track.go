package redis

import (
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// track is a set of lanes with what waits for them. There are two: what is known to be
// small never waits behind a value.
type track struct {
	queues   []chan *call
	circuits []circuit // parts of them with a cluster, else none
	callsMax int       // in one pipeline
	values   bool
	held     atomic.Int64 // bytes to be stored that wait or are on their way
	seconds  *metrics.PrometheusHistogram
}

// pave makes the queues of a track and starts its lanes.
func (c *Client) pave(t *track, lanes, queued int) {
	t.queues = make([]chan *call, 1, lanes)
	if len(c.settings.Cluster) > 0 {
		// Each lane has its parts of the slots, so that a node that does not answer
		// holds up only the lanes that have parts of it.
		t.circuits = make([]circuit, parts)
		t.queues = t.queues[:lanes]
	}
	for i := range t.queues {
		t.queues[i] = make(chan *call, queued/len(t.queues))
	}
	for i := range lanes {
		c.work.Go(func() { c.lane(t, t.queues[i%len(t.queues)]) })
	}
}

// put queues a call. An error says that it was not.
func (t *track) put(k *call) error {
	queue := t.queues[0]
	if t.circuits != nil {
		p := part(k.keys)
		if p < 0 {
			return errSlots
		}
		var ok bool
		if ok, k.trial = t.circuits[p].allow(time.Now()); !ok {
			return ErrAway
		}
		k.circuit = &t.circuits[p]
		queue = t.queues[p*len(t.queues)/parts]
	}
	bytes := int64(k.bytes) // k is the lane's once it is in the queue
	if bytes == 0 || t.held.Add(bytes) <= heldMax {
		select {
		case queue <- k:
			return nil
		default:
		}
	}
	if bytes != 0 {
		t.held.Add(-bytes)
	}
	k.settle(false, false)
	return ErrFull
}

var errSlots = &answered{faultAnswer, "the keys of one call lie in no slot or in different slots of the cluster"}
