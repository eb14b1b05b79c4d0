package dns

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"time"
)

const (
	// lookEvery is how often the files are looked at, and lapsed answers dropped.
	lookEvery = 5 * time.Second
	// settled is how old a change must be for the next to have another time.
	settled = time.Second
	// fileBytesMax bounds what is read of a file.
	fileBytesMax = 16 << 20
)

// file is read again when it changes. It belongs to one goroutine.
type file struct {
	path    string
	use     func([]byte)
	info    os.FileInfo // of what was read; nil: read it next time
	content []byte
	empty   bool // it was empty or missing last time, which was not believed yet
}

// open reads the file for the first time.
func (f *file) open(log *slog.Logger) {
	b, info, err := f.read()
	if err != nil && !os.IsNotExist(err) {
		log.Warn("dns: cannot read file", "path", f.path, "error", err)
	}
	f.info, f.content = info, b
	f.use(b)
}

// look reads the file if it has changed. While somebody rewrites it in place it
// may be seen empty: that is believed the second time.
func (f *file) look(log *slog.Logger) {
	info, err := os.Stat(f.path)
	if err == nil && f.info != nil && same(info, f.info) || err != nil && f.content == nil {
		f.empty = false
		return
	}
	b, info, err := f.read()
	if len(b) == 0 && len(f.content) > 0 && !f.empty {
		f.empty = true
		return
	}
	f.empty = false
	if err != nil && !os.IsNotExist(err) {
		log.Warn("dns: cannot read file, what it said before holds", "path", f.path, "error", err)
		return
	}
	f.info = info
	if bytes.Equal(b, f.content) {
		f.content = b
		return
	}
	f.content = b
	log.Info("dns: file has changed", "path", f.path)
	f.use(b)
}

// read returns the content, and the state of the file if that tells whether it
// changes: not if it did while it was read, nor if it is so young that the next
// change may get the same time.
func (f *file) read() ([]byte, os.FileInfo, error) {
	h, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = h.Close() }() // only read
	before, err := h.Stat()
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(h, fileBytesMax))
	if err != nil {
		return nil, nil, err
	}
	after, err := os.Stat(f.path)
	if err != nil || !same(before, after) || time.Since(after.ModTime()) < settled {
		return b, nil, nil
	}
	return b, after, nil
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// watchFiles looks at the files now and then, and sweeps.
func (r *Resolver) watchFiles() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case now := <-tick.C:
			for _, f := range r.files {
				f.look(r.log)
			}
			r.sweep(now)
		}
	}
}

// useResolvConf takes in a resolv.conf. servers, if any, are asked instead of
// those it names. One that names none does not take away those that were known.
func (r *Resolver) useResolvConf(b []byte, servers []string) {
	rc := parseResolvConf(b)
	if len(servers) > 0 {
		rc.servers = servers
	}
	old := r.conf.Load()
	if len(rc.servers) == 0 && old != nil {
		rc.servers = old.resolvConf.servers
	}
	r.conf.Store(newConf(rc, old, r.settings.Timeout))
	if old != nil {
		r.refresh(func(string) bool { return false }, true)
	}
}

// useHosts takes in a hosts file.
func (r *Resolver) useHosts(b []byte) {
	h := parseHosts(b)
	old := r.hosts.Swap(&h)
	if old != nil {
		r.refresh(func(name string) bool { return h.changed(*old, name) }, false)
	}
}
