//go:build !linux

package engine

import "errors"

func setReusePort(uintptr) error {
	return errors.New("reuseport is supported on Linux only")
}
