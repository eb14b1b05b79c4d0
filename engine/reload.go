package engine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Loader reads the operator's files and applies them: at start, on SIGHUP, when
// they change, and when asked. One load runs at a time. Safe for concurrent use.
type Loader struct {
	engine *Engine
	files  []string // documents and overlays
	read   func() (*config.Document, error)

	mu      sync.Mutex
	digest  [sha256.Size]byte // of the files' content at the last load
	looked  [sha256.Size]byte // of their content at the last look, not loaded
	watched bool
}

// NewLoader returns a Loader for files, which read turns into a Document.
func NewLoader(e *Engine, files []string, read func() (*config.Document, error)) *Loader {
	l := &Loader{engine: e, files: files, read: read}
	l.digest, _ = l.content() // read has just succeeded; a change since then is found by the watch
	return l
}

// Reload reads the files and applies them, changed or not. On error the live
// document stays.
func (l *Loader) Reload() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	digest, err := l.content()
	if err != nil {
		l.engine.Refuse(err)
		return err
	}
	return l.load(digest)
}

func (l *Loader) load(digest [sha256.Size]byte) error {
	l.digest = digest
	d, err := l.read()
	if err != nil {
		l.engine.Refuse(err)
		return err
	}
	return l.engine.Apply(d)
}

// content returns a digest of what the files hold now.
func (l *Loader) content() (digest [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, f := range l.files {
		b, rerr := os.ReadFile(f)
		err = errors.Join(err, rerr)
		_, _ = fmt.Fprintf(h, "%d\n", len(b)) // a hash never fails
		_, _ = h.Write(b)
	}
	h.Sum(digest[:0])
	return digest, err
}

// settleTime lets an editor or a symlink swap finish before files are read.
const settleTime = 100 * time.Millisecond

// Watch reloads when the content of the files changes, until quit is closed. It
// watches their directories, since editors and Kubernetes replace files instead
// of writing to them, and compares content, since they touch them too.
// report is told the outcome of every reload.
func (l *Loader) Watch(quit <-chan struct{}, report func(error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching files: %w", err)
	}
	dirs := map[string]bool{}
	for _, f := range l.files {
		dirs[filepath.Dir(f)] = true
	}
	for dir := range dirs {
		if err := w.Add(dir); err != nil {
			return errors.Join(fmt.Errorf("watching %s: %w", dir, err), w.Close())
		}
	}
	l.setWatched(true)
	go l.watch(w, quit, report)
	return nil
}

func (l *Loader) setWatched(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched = on
}

// Watching reports whether changes of the files are noticed: false once the
// watcher has died.
func (l *Loader) Watching() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watched
}

func (l *Loader) watch(w *fsnotify.Watcher, quit <-chan struct{}, report func(error)) {
	defer l.setWatched(false)
	defer func() { _ = w.Close() }() // nothing to do about it
	settle := time.NewTimer(time.Hour)
	settle.Stop()
	for {
		select {
		case <-quit:
			return
		case _, ok := <-w.Events:
			if !ok {
				return
			}
			settle.Reset(settleTime)
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			report(fmt.Errorf("watching files: %w", err))
			settle.Reset(settleTime) // an overflow loses events: look
		case <-settle.C:
			settled, changed, err := l.reloadChanged()
			if changed {
				report(err)
			}
			if !settled {
				settle.Reset(settleTime)
			}
		}
	}
}

// reloadChanged reloads if the content differs from the last load and is what it
// was at the last look: a file that is written in place must not be read half.
func (l *Loader) reloadChanged() (settled, changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	digest, err := l.content()
	if err != nil {
		return true, false, nil // between removal and replacement; another event follows
	}
	if bytes.Equal(digest[:], l.digest[:]) {
		return true, false, nil
	}
	if !bytes.Equal(digest[:], l.looked[:]) {
		l.looked = digest
		return false, false, nil
	}
	return true, true, l.load(digest)
}
