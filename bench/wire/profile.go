package main

import (
	"bytes"
	"compress/gzip"
	"context"
	varint "encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// loadProfiled loads a subject. If the flags ask for a profile it is taken meanwhile, from
// the Admin listener of those that are sluice.
func (l *lab) loadProfiled(ctx context.Context, r *running) (*load, error) {
	seconds := l.o.secondsOf(r.group)
	if l.o.profile == "" || r.binary != sluiceBinary {
		return loadAndCheck(ctx, l, r.group, r.url, seconds)
	}
	taken := make(chan error, 1)
	path := filepath.Join(l.dir, fmt.Sprintf("%03d-%s.pprof", len(l.profiles), strings.ReplaceAll(r.name, "/", "-")))
	go func() { taken <- l.takeProfile(ctx, r, path, seconds) }()
	w, err := loadAndCheck(ctx, l, r.group, r.url, seconds)
	err = errors.Join(err, <-taken)
	if err == nil {
		l.profiles = append(l.profiles, path)
	}
	return w, err
}

// takeProfile stores a CPU profile of so many seconds.
func (l *lab) takeProfile(ctx context.Context, r *running, path string, seconds int) error {
	client := *l.client
	client.Timeout = 0 // the profile is sent when it is over
	a, err := (&lab{client: &client}).get(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", r.adminURL, seconds), "")
	if err != nil {
		return err
	}
	if a.status != 200 {
		return fmt.Errorf("profile of %s: status %d: %s", r.name, a.status, a.body)
	}
	return os.WriteFile(path, a.body, 0o600)
}

// mergeProfiles writes the sum of all profiles where the flags say.
func (l *lab) mergeProfiles(ctx context.Context) error {
	if l.o.profile == "" {
		return nil
	}
	if len(l.profiles) == 0 {
		return errors.New("-profile: no row of this run is sluice")
	}
	merged, err := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof", "-proto"}, l.profiles...)...).Output()
	if err != nil {
		return fmt.Errorf("go tool pprof -proto: %w", err)
	}
	text, err := renameMapping(merged, l.dir)
	if err != nil {
		return err
	}
	return os.WriteFile(l.o.profile, text, 0o644)
}

// stringTable is the number of the field of a profile that has one of its strings
// (profile.proto of pprof).
const stringTable = 6

// renameMapping takes the folder of a run out of a compressed profile: which file was
// mapped where says nothing to a compiler, and would differ in every run.
func renameMapping(compressed []byte, dir string) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, answerMax))
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	for len(text) > 0 {
		tag, n := varint.Uvarint(text)
		size, m := uint64(0), 0
		if n > 0 {
			size, m = varint.Uvarint(text[n:])
		}
		if tag&7 == 0 && m > 0 { // a number, which has just been read
			size = 0
		}
		end := n + m + int(size)
		if n <= 0 || m <= 0 || tag&7 != 0 && tag&7 != 2 || end > len(text) || end < 0 {
			return nil, errors.New("profile: not one of pprof")
		}
		field := text[:end]
		if value := field[n+m:]; tag>>3 == stringTable && bytes.HasPrefix(value, []byte(dir)) {
			value = value[bytes.LastIndexByte(value, '/')+1:]
			field = append(varint.AppendUvarint(varint.AppendUvarint(nil, tag), uint64(len(value))), value...)
		}
		if _, err := w.Write(field); err != nil {
			return nil, err
		}
		text = text[end:]
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
