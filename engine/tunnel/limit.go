package tunnel

import "time"

// never is longer than any tunnel.
const never = time.Duration(1 << 62)

// firstLook returns when the limits can be reached for the first time.
func (t *Tunnel) firstLook() time.Duration {
	if t.over.Load() {
		return interruptAgain // closed before it ran
	}
	left, _ := t.left(0)
	return left
}

// look runs when a limit may have been reached: it ends the tunnel or comes back
// when the limit can be reached next. So bytes that move set no deadline: they
// only note the time, and a tunnel costs one timer event per idle period.
func (t *Tunnel) look() {
	t.mu.Lock()
	if t.done {
		t.mu.Unlock()
		return
	}
	if t.over.Load() {
		t.interrupt()
		t.timer.Reset(interruptAgain)
		t.mu.Unlock()
		return
	}
	now := time.Since(t.started)
	left, cause := t.left(now)
	if left > 0 {
		t.timer.Reset(max(left, time.Millisecond))
		t.mu.Unlock()
		return
	}
	if limit := t.silence(); limit > 0 {
		t.stalled[0] = t.down.stalled(now, limit) <= 0
		t.stalled[1] = t.up.stalled(now, limit) <= 0
	}
	t.mu.Unlock()
	t.stop(cause, nil)
}

// silence returns how long nothing may move at the moment, 0 for ever.
func (t *Tunnel) silence() time.Duration {
	limit := t.settings.Idle
	if t.half.Load() && (limit <= 0 || limit > t.settings.HalfClosed) {
		limit = t.settings.HalfClosed
	}
	return max(limit, 0)
}

// left returns how long after now the next limit is reached if nothing moves,
// and the cause that would be.
func (t *Tunnel) left(now time.Duration) (time.Duration, Cause) {
	left, cause := never, Idle
	if limit := t.settings.MaxDuration; limit > 0 {
		left, cause = limit-now, Expired
	}
	limit := t.silence()
	if limit == 0 {
		return left, cause
	}
	up, _ := t.up.last()
	down, _ := t.down.last()
	silent := max(up, down) + limit - now
	// Bytes one way are no excuse for taking none the other way.
	silent = min(silent, t.up.stalled(now, limit), t.down.stalled(now, limit))
	if silent < left {
		return silent, Idle
	}
	return left, cause
}

// stalled returns how long after now the target of d has taken nothing for as
// long as limit.
func (d *direction) stalled(now, limit time.Duration) time.Duration {
	last, waits := d.last()
	if !waits {
		return never
	}
	return last + limit - now
}
