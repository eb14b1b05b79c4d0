// Package filelog is the plugin file-log: it appends one JSON line a request to a
// file. What a line holds is described in package record.
//
//	path                   file to append to, created with mode 0644; a directory
//	                       that is missing is a fault when the document is loaded
//	reopen                 false; true opens the file anew for each batch, so that a
//	                       rotated file is noticed without a signal
//	custom_fields_by_lua   field name to Lua, of which package record knows a little
//
// Lines are encoded by the request's goroutine into a queue of 4 MiB and written
// by one goroutine a path, at most 100 ms later and many at a time. A request never
// waits for the disk: when the queue is full its line is dropped and counted in
// sluice_filelog_dropped_total{path}. So are lines of a failed write, which is
// counted in sluice_filelog_write_errors_total{path} and reported to the
// gateway's log every ten seconds at most.
//
// The queue outlives a reload. When no snapshot logs to the path any more, what
// was accepted is written and the file closed. On SIGUSR1 the gateway calls Reopen
// on every kept value that has it, and the next batch goes to a new file.
//
// Encoding and queueing allocate nothing once the buffers have grown.
package filelog

import (
	"strconv"
	"sync"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/filelog/record"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("file-log", Config{}, build).AsWriter()

// Reopener is a kept value that can open its file anew, as on SIGUSR1. Reopen
// returns at once and may be called from any goroutine.
type Reopener interface {
	Reopen()
}

// lineKept is the capacity above which an encoding buffer is not pooled.
const lineKept = 64 << 10

var lines = sync.Pool{New: func() any { return new([]byte) }}

// logger is one instance.
type logger struct {
	encoder *record.Encoder
	file    *file
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	encoder, err := record.New(env, c.CustomFields)
	if err != nil {
		return pipeline.Hooks{}, err
	}
	f, err := pipeline.Keep(env, "file-log "+strconv.FormatBool(c.Reopen)+" "+c.Path, func() (*file, error) {
		return openFile(c.Path, c.Reopen, env)
	})
	if err != nil {
		return pipeline.Hooks{}, err
	}
	l := &logger{encoder: encoder, file: f}
	return pipeline.Hooks{Log: l.log}, nil
}

// log is hot.
func (l *logger) log(x *pipeline.Exchange) {
	b := lines.Get().(*[]byte)
	*b = append(l.encoder.Append((*b)[:0], x), '\n')
	// Any byte of the request id spreads well.
	l.file.enqueue(*b, x.RequestID[0]^x.RequestID[31])
	if cap(*b) <= lineKept {
		lines.Put(b)
	}
}
