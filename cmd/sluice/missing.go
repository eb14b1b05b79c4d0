package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// missingEvery is how often files are looked for. The watcher of changes hears
// of a removal too, but cannot tell it from the first half of a replacement.
const missingEvery = time.Second

// missing notices files that are gone for longer than a replacement takes.
// For one goroutine.
type missing struct {
	files []string
	looks []int // how often in a row a file was not there
}

func newMissing(files []string) *missing {
	return &missing{files: files, looks: make([]int, len(files))}
}

// look returns the files that were not there at this look and the one before,
// each once until it is back.
func (m *missing) look() (gone []string) {
	for i, f := range m.files {
		if _, err := os.Stat(f); !errors.Is(err, fs.ErrNotExist) {
			m.looks[i] = 0
			continue
		}
		if m.looks[i]++; m.looks[i] == 2 {
			gone = append(gone, f)
		}
	}
	return gone
}

// warnMissing logs a warning for each file that is gone, until quit is closed.
func warnMissing(log *slog.Logger, files []string, quit <-chan struct{}) {
	tick := time.NewTicker(missingEvery)
	defer tick.Stop()
	for m := newMissing(files); ; {
		select {
		case <-quit:
			return
		case <-tick.C:
			for _, f := range m.look() {
				log.Warn("a watched file is gone, its last content stays live", "file", f)
			}
		}
	}
}
