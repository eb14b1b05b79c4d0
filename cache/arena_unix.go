//go:build unix && !linux && !heaparena

package cache

import "os"

const mapFlags = 0

// punch frees a part of a file, for which there is no common call.
func punch(*os.File, int64, int64) {}

// allocate would take room on the disk for a part of a file, for which there is no
// common call either.
func allocate(*os.File, int64, int64) bool { return true }

func largePages([]byte, bool) {}
