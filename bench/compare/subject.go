package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// lab is where subjects are built and run. Not safe for concurrent use.
type lab struct {
	ctx       context.Context // of the whole command
	set       *settings
	progress  io.Writer
	folder    string   // temporary
	worktrees []string // made by git, to be removed by it
}

// subject is a test binary and the folder that it runs in.
type subject struct {
	name   string // as the user said
	what   string // and what that turned out to be
	binary string
	folder string
}

func openLab(ctx context.Context, s *settings, progress io.Writer) (*lab, error) {
	folder, err := os.MkdirTemp("", "sluice-compare-")
	if err != nil {
		return nil, err
	}
	return &lab{ctx: ctx, set: s, progress: progress, folder: folder}, nil
}

// close removes what the lab made, also after an interrupt.
func (l *lab) close() error {
	var errs []error
	for _, tree := range l.worktrees {
		// Its own context: that of the command may be over.
		_, err := command(context.Background(), ".", "git", "worktree", "remove", "--force", tree)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, os.RemoveAll(l.folder))...)
}

// command runs a program in a folder and returns what it prints, without the last newline.
func command(ctx context.Context, folder, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = folder
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s %s, in %s: %w\n%s%s", name, strings.Join(args, " "), folder, err, &out, &errs)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// subject finds what a name stands for and builds it where it must be built.
func (l *lab) subject(name string) (*subject, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return l.commit(name)
	case info.IsDir():
		return l.build(&subject{name: name, what: "folder " + name}, name)
	case info.Mode()&0o111 == 0:
		return nil, fmt.Errorf("%s: a file that is not executable; want a test binary of go test -c, a folder or a commit", name)
	}
	binary, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	s := &subject{name: name, what: "binary " + name, binary: binary, folder: l.set.folder}
	if info, err := os.Stat(s.folder); err != nil || !info.IsDir() {
		s.folder = "." // a binary from elsewhere
	}
	return s, nil
}

// commit checks a commit out and builds it.
func (l *lab) commit(name string) (*subject, error) {
	hash, err := command(l.ctx, ".", "git", "rev-parse", "--verify", "--end-of-options", name+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("%q is neither a path nor a commit: %w", name, err)
	}
	tree := filepath.Join(l.folder, "tree"+strconv.Itoa(len(l.worktrees)))
	if _, err := command(l.ctx, ".", "git", "worktree", "add", "--detach", tree, hash); err != nil {
		return nil, err
	}
	l.worktrees = append(l.worktrees, tree)
	// The folder may be a part of the repository.
	below, err := command(l.ctx, ".", "git", "rev-parse", "--show-prefix")
	if err != nil {
		return nil, err
	}
	return l.build(&subject{name: name, what: "commit " + hash}, filepath.Join(tree, below))
}

// build compiles the tests of the package below root.
func (l *lab) build(s *subject, root string) (*subject, error) {
	s.folder = filepath.Join(root, l.set.folder)
	if info, err := os.Stat(s.folder); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s: no package in folder %s; -package names it", s.name, s.folder)
	}
	binary, err := os.CreateTemp(l.folder, "*.test")
	if err != nil {
		return nil, err
	}
	s.binary = binary.Name()
	if err := binary.Close(); err != nil {
		return nil, err
	}
	_, _ = fmt.Fprintf(l.progress, "building %s\n", s.what)
	if _, err := command(l.ctx, s.folder, "go", "test", "-c", "-o", s.binary, "."); err != nil {
		return nil, err
	}
	if info, err := os.Stat(s.binary); err != nil || info.Size() == 0 {
		return nil, fmt.Errorf("%s: package %s has no tests", s.name, s.folder)
	}
	return s, nil
}
