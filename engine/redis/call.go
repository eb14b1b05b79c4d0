package redis

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// verb is what a call asks for.
type verb uint8

const (
	runs        verb = iota // a script: integers
	runsStrings             // a script: strings
	gets
	sets
	deletes
)

// The states of a call: who has it.
const (
	waiting   int32 = iota // its caller waits
	abandoned              // its caller has left; the lane that finds it frees it
	finished               // its answer is there
)

// call is one question on its way. It belongs to its caller, and to a lane from put
// until finish.
type call struct {
	verb       verb
	again      bool // was asked in other words
	trial      bool
	script     string
	keys, args []string
	deadline   time.Time
	circuit    *circuit // nil but for a cluster

	state atomic.Int32
	done  chan struct{}
	ints  []int64 // the answer to Run
	err   error

	values // last: Run does not touch them
}

// values are what a call has that is not one of Run.
type values struct {
	key   [1]string // room for keys
	value string    // the caller's own bytes
	bytes int       // of what is to be stored
	ttl   int64     // milliseconds

	texts []string
	read  []byte // memory of its own
	found bool
}

var calls = sync.Pool{New: func() any {
	return &call{done: make(chan struct{}, 1)}
}}

func newCall(v verb, keys []string) *call {
	k := calls.Get().(*call)
	k.verb, k.keys = v, keys
	k.state.Store(waiting)
	return k
}

// newKeyCall is newCall for one key.
func newKeyCall(v verb, key string) *call {
	k := newCall(v, nil)
	k.key[0] = key
	k.keys = k.key[:]
	return k
}

func (k *call) recycle() {
	k.script, k.keys, k.args, k.circuit, k.again, k.trial, k.ints, k.err = "", nil, nil, nil, false, false, nil, nil
	if k.verb != runs {
		k.values = values{}
	}
	calls.Put(k)
}

// finish hands the answer to the caller, if he still waits.
func (k *call) finish(err error) {
	k.err = err
	if k.state.CompareAndSwap(waiting, finished) {
		k.done <- struct{}{}
		return
	}
	k.recycle()
}

func (k *call) settle(answered, gone bool) {
	if k.circuit != nil {
		k.circuit.settle(time.Now(), k.trial, answered, gone)
	}
}

// hear takes in what Redis said.
func (k *call) hear(r *rueidis.RedisResult) (err error) {
	switch k.verb {
	case runs:
		k.ints, err = r.AsIntSlice()
		return err
	case runsStrings:
		k.texts, err = texts(r)
		return err
	case gets:
		k.read, err = r.AsBytes()
		switch {
		case err != nil && rueidis.IsRedisNil(err):
			return nil
		case len(k.read) > ValueMax:
			k.read = nil
			return ErrTooLarge
		}
		k.found = err == nil && (k.again || len(k.read) > 0)
	}
	return r.Error()
}

// texts reads an array of strings.
func texts(r *rueidis.RedisResult) ([]string, error) {
	messages, err := r.ToArray()
	if err != nil {
		if rueidis.IsRedisNil(err) {
			err = nil
		}
		return nil, err
	}
	out := make([]string, len(messages))
	for i := range messages {
		m := &messages[i]
		if m.IsInt64() {
			n, _ := m.ToInt64()
			out[i] = strconv.FormatInt(n, 10)
			continue
		}
		if out[i], err = m.ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, err
		}
	}
	return out, nil
}

// size is of what was answered, in bytes.
func (k *call) size() int {
	n := len(k.read)
	for _, s := range k.texts {
		n += len(s)
	}
	return n
}
