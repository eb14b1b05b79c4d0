//go:build !linux

package tunnel

// raw is not available on this system: everything is copied.
type raw struct{}

func (d *direction) initRaw()        {}
func (d *direction) rawSource() bool { return false }
func (d *direction) rawTarget() bool { return false }
func (d *direction) fillRaw()        {}
func (d *direction) deliverRaw()     {}
func (d *direction) letGoRaw()       {}
func (d *direction) holds() bool     { return len(d.hold) > 0 }

// PipesRefused returns 0 on this system, which has no use for pipes.
func PipesRefused() int64 { return 0 }
