//go:build !linux

package socket

import "errors"

const supported = false

// Send is not available on this system.
func Send(uintptr, []byte) (int, error) { return 0, ErrAgain }

// Recv is not available on this system.
func Recv(uintptr, []byte) (int, error) { return 0, ErrAgain }

// Peek is not available on this system.
func Peek(uintptr) error { return ErrAgain }

func shutdown(uintptr) error { return errors.ErrUnsupported }
