//go:build !linux

package trial

import (
	"context"
	"fmt"
	"runtime"
)

// errSystem is all that there is to say elsewhere.
var errSystem = fmt.Errorf("a trial needs epoll and /proc, which Linux has and %s does not: run it on Linux, or in a container", runtime.GOOS)

// Relay needs Linux.
func Relay(string, func(string)) error { return errSystem }

// Serve needs Linux.
func Serve(*Service, func(string)) error { return errSystem }

func conduct(context.Context, *Options, []Request, *Report) error { return errSystem }

func where() []Fact { return []Fact{{"system", runtime.GOOS + "/" + runtime.GOARCH}} }
