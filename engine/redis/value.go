package redis

import (
	"context"
	"errors"
	"time"

	"github.com/redis/rueidis"
)

const (
	// ValueMax is the longest value in bytes that is stored or handed over. A value
	// holds up those that share its connection for as long as it takes.
	ValueMax = 8 << 20

	// valueLanesMax is how many further connections a client has to a node for values.
	valueLanesMax = 2
	// valuesBatchMax is the most calls in one pipeline of them. Fewer are sent where
	// what is stored, and what is going to be answered by the look of the last
	// answers, comes to ValueMax.
	valuesBatchMax = 16
	// valuesQueueMax is the most calls that wait for a lane of values.
	valuesQueueMax = 256
	// heldMax is the most bytes to be stored that wait or are on their way.
	heldMax = 8 * ValueMax
	// presumedFirst and presumedMin are of the length of an answer that is not known.
	presumedFirst = ValueMax / valuesBatchMax
	presumedMin   = 1 << 10
	// deleteMax is the most keys in one command, deletesMax the most commands under way.
	deleteMax  = 128
	deletesMax = 32
	// copiedMax is the longest value that is always copied to the caller.
	copiedMax = 1 << 10
)

// Get appends the value of a key to dst; found says whether there is one. Where it is
// not, or Get fails, value is dst. A value that an empty dst has no room for is not
// copied: value is then memory of its own, and dst is as it was. dst is never written
// to after Get has returned.
//
// A value longer than ValueMax is ErrTooLarge, a key of another type ErrAnswer.
func (c *Client) Get(ctx context.Context, key string, dst []byte) (value []byte, found bool, err error) {
	k := newKeyCall(gets, key)
	mine, err := c.do(ctx, k)
	if !mine {
		return dst, false, err
	}
	read, found := k.read, k.found
	k.recycle()
	if err != nil || !found {
		return dst, false, err
	}
	c.meters.read.Add(len(read))
	if len(dst) == 0 && cap(dst) < len(read) && len(read) > copiedMax {
		return read, true, nil
	}
	return append(dst, read...), true, nil
}

// Set stores value under key for ttl, which counts in milliseconds, the last one begun
// being whole, and must be positive. What the key had before is replaced, whatever its
// type.
//
// A Redis that takes less than ValueMax may close the connection over a value: scripts
// do not notice, the next value may fail with ErrAway.
//
// value is not copied. It must not be changed until Set has returned, and no more after
// that if Set failed: it may still be on its way, and arrive.
func (c *Client) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := c.checkSet(value, ttl); err != nil {
		c.meters.count(err)
		return err
	}
	k := newKeyCall(sets, key)
	k.value, k.bytes = rueidis.BinaryString(value), len(value)
	k.ttl = int64((ttl + time.Millisecond - 1) / time.Millisecond)
	mine, err := c.do(ctx, k)
	if mine {
		k.recycle()
	}
	if err == nil {
		c.meters.written.Add(len(value))
	}
	return err
}

var errTTL = &answered{faultAnswer, "the time to live must be positive"}

func (c *Client) checkSet(value []byte, ttl time.Duration) error {
	switch {
	case len(value) > ValueMax:
		return ErrTooLarge
	case ttl <= 0:
		return errTTL
	}
	return nil
}

// RunStrings runs a script whose answer is an array of strings; numbers among them are
// returned in decimal, a nil as an empty string, and nil in place of an array as nil.
// keys and args are not to be changed afterwards, also where it failed. args of more
// than ValueMax bytes are ErrTooLarge. The script must bound its answer.
func (c *Client) RunStrings(ctx context.Context, script string, keys, args []string) ([]string, error) {
	bytes := 0
	for _, a := range args {
		bytes += len(a)
	}
	if bytes > ValueMax {
		c.meters.count(ErrTooLarge)
		return nil, ErrTooLarge
	}
	k := newCall(runsStrings, keys)
	k.script, k.args, k.bytes = script, args, bytes
	mine, err := c.do(ctx, k)
	if !mine {
		return nil, err
	}
	out := k.texts
	k.recycle()
	return out, err
}

// Delete removes keys, of any type, with what they hold freed in the background of
// Redis. It returns the first error; those keys that could be reached are gone all the
// same, unless the time was up. Keys that are not there are no error. keys is not to be
// changed afterwards, also where it failed.
func (c *Client) Delete(ctx context.Context, keys ...string) error {
	start := time.Now()
	deadline := c.deadline(ctx, start)
	timer := time.NewTimer(deadline.Sub(start))
	defer timer.Stop()
	each := deleteMax
	if c.values.circuits != nil {
		each = 1 // they lie in different slots
	}
	var failed error
	late := false
	fail := func(err error) {
		c.meters.count(err)
		if failed == nil {
			failed = err
		}
		late = late || errors.Is(err, ErrTimeout) || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled)
	}
	way := make([]*call, 0, min(deletesMax, (len(keys)+each-1)/each))
	for len(keys) > 0 && !late {
		way = way[:0]
		for len(keys) > 0 && len(way) < deletesMax && !late {
			n := min(each, len(keys))
			k := newCall(deletes, keys[:n])
			k.deadline = deadline
			keys = keys[n:]
			if err := c.put(ctx, k, timer.C); err != nil {
				k.recycle()
				fail(err)
				continue
			}
			way = append(way, k)
		}
		for _, k := range way {
			mine, err := c.wait(ctx, k, timer.C)
			if mine {
				k.recycle()
			}
			if errors.Is(err, ErrTimeout) {
				timer.Reset(0) // the others are late as well
			}
			fail(err)
		}
	}
	return failed
}
