//go:build race || poison

package cache

// poison overwrites what its owner gave back, so that who still reads it finds out.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
