// Package machine says where something is measured and on which CPUs: what every report
// must state, and what keeps the measured apart from what loads it. Linux only. Everything
// is safe for concurrent use.
package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// CPUModel names the processor as the kernel does.
func CPUModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown model"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown model"
}

// Kernel names the system, its release and the architecture.
func Kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown: " + err.Error()
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + runtime.GOARCH
}

// Commit names the commit that is checked out in dir, with "+changes" if the tree differs
// from it.
func Commit(ctx context.Context, dir string) string {
	id, err := exec.CommandContext(ctx, "git", "-C", dir, "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return fmt.Sprintf("unknown (no git commit: %v)", err)
	}
	changes, err := exec.CommandContext(ctx, "git", "--no-optional-locks", "-C", dir, "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil || len(changes) > 0 {
		return strings.TrimSpace(string(id)) + "+changes"
	}
	return strings.TrimSpace(string(id))
}
