package lb

import "sync"

// budgetWindow is what a Budget looks back, in nanoseconds: Finagle's and
// Linkerd's 10 s.
const budgetWindow = 10e9

// Budget bounds retries by the traffic that there is, so that they cannot
// multiply the load of a service that fails: a retry is granted while those of the
// last 10 s are less than a percentage of the first attempts of the same time, plus
// a few a second that a service with little traffic may always make. What is not
// used is forgotten after 10 s, so no balance grows without bound. The rules are
// those of Finagle's RetryBudget.
//
// The counts are a tally: it looks back between 9.4 s and 10 s. A retry is
// forgotten no sooner than the attempts it was granted for, so over any length of
// time retries stay within the percentage of all first attempts plus 10 s of the
// minimum for every begun 10 s, aligned to sixteenths of them.
//
// Safe for concurrent use: a first attempt is an addition on memory its shard has
// nearly to itself, only a retry takes a lock.
type Budget struct {
	share   float64 // retries for a first attempt
	reserve float64 // retries in a window, whatever the traffic
	mu      sync.Mutex
	tally   *tally // marked are the retries
}

// NewBudget returns a Budget of percent of the first attempts and minPerSecond
// more.
func NewBudget(percent, minPerSecond float64) *Budget {
	return &Budget{
		share:   percent / 100,
		reserve: minPerSecond * (budgetWindow / 1e9),
		tally:   newTally(budgetWindow),
	}
}

// Deposit counts a first attempt. shard is as in Request.
func (b *Budget) Deposit(shard uint64, now int64) { b.tally.add(shard, now, false) }

// Withdraw reports whether a retry may be made, and counts it if so.
func (b *Budget) Withdraw(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all, retries := b.tally.sum(now)
	// Shares such as 0.2 are not exact in binary: a millionth of a retry is forgiven.
	if float64(retries+1) > float64(all-retries)*b.share+b.reserve+1e-6 {
		return false
	}
	b.tally.add(0, now, true)
	return true
}

// Balance returns how many retries would be granted at now: for metrics.
func (b *Budget) Balance(now int64) int64 {
	all, retries := b.tally.sum(now)
	return max(int64(float64(all-retries)*b.share+b.reserve+1e-6)-int64(retries), 0)
}
