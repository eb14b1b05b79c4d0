package cache

import (
	"slices"
	"sync"
)

// Rule says which entries a purge is about.
type Rule struct {
	// Groups of labels: an entry matches if it has a label of every group. No groups:
	// every entry. A rule of more than RuleLabelsMax labels matches every entry, which
	// purges too much but never too little.
	Groups [][]uint32

	// Soft marks entries stale instead of removing them.
	Soft bool
}

const (
	// RuleLabelsMax is how many labels a rule may have.
	RuleLabelsMax = 1024

	// rulesMax and conjunctionsMax are how many labels, and how many rules of several
	// groups, are remembered. One more, and all entries are checked at once.
	rulesMax        = 16384
	conjunctionsMax = 256
)

// normal returns the rule as it is remembered.
func (r Rule) normal() Rule {
	n := 0
	for _, group := range r.Groups {
		n += len(group)
	}
	if n > RuleLabelsMax || len(r.Groups) > RuleLabelsMax {
		return Rule{Soft: r.Soft}
	}
	return r
}

// matchesRecord is matches of a record's labels, without a closure.
func (r *Rule) matchesRecord(e record) bool {
	for _, group := range r.Groups {
		found := false
		for _, l := range group {
			found = found || e.hasLabel(l)
		}
		if !found {
			return false
		}
	}
	return true
}

func (r Rule) matches(has func(label uint32) bool) bool {
	for _, group := range r.Groups {
		if !slices.ContainsFunc(group, has) {
			return false
		}
	}
	return true
}

// rules are the purges that not every entry was checked against yet.
type rules struct {
	mu    sync.RWMutex
	seq   uint64 // of the last rule
	floor uint64 // rules up to it are forgotten, as all entries were checked
	all   marks
	// labels is an open-addressing table without pointers; used slots have a hard or a
	// soft mark.
	labels       []labelRule
	used         int
	conjunctions []conjunction

	kept *file // where they are written down; nil if nowhere, or the store is closed
}

// marks are the sequence numbers of the last hard and the last soft purge.
type marks struct{ hard, soft uint64 }

type labelRule struct {
	marks
	label uint32
}

type conjunction struct {
	rule Rule
	seq  uint64
}

// verdict is what the rules say of an entry: up to which of them that holds.
type verdict struct {
	seq        uint64
	dead, soft bool
}

// judge says what the rules are to an entry that is to be stored.
func (x *rules) judge(labels []uint32, born uint64) verdict {
	x.mu.RLock()
	defer x.mu.RUnlock()
	v := verdict{seq: x.seq}
	if born >= x.seq {
		return v
	}
	if born < x.floor {
		// What was purged then is not known any more.
		v.dead = true
		return v
	}
	v.add(x.all, born)
	for _, l := range labels {
		v.add(x.marks(l), born)
	}
	for _, c := range x.conjunctions {
		if c.seq > born && c.rule.matches(func(l uint32) bool { return slices.Contains(labels, l) }) {
			v.addRule(c)
		}
	}
	return v
}

// judgeRecord is judge of an entry that was checked up to since. The lock is held.
func (x *rules) judgeRecord(r record, since uint64) verdict {
	v := verdict{seq: x.seq}
	if since >= x.seq {
		return v
	}
	v.add(x.all, since)
	for i := range r.shape().labels() {
		v.add(x.marks(r.label(i)), since)
	}
	for _, c := range x.conjunctions {
		if c.seq > since && c.rule.matchesRecord(r) {
			v.addRule(c)
		}
	}
	return v
}

func (v *verdict) add(m marks, since uint64) {
	v.dead = v.dead || m.hard > since
	v.soft = v.soft || m.soft > since
}

func (v *verdict) addRule(c conjunction) {
	v.dead = v.dead || !c.rule.Soft
	v.soft = v.soft || c.rule.Soft
}

func labelHome(label uint32, n int) int {
	return int(uint64(label*0x9e3779b1) * uint64(n) >> 32)
}

// marks returns what was last purged of a label.
func (x *rules) marks(label uint32) marks {
	if x.used == 0 {
		return marks{}
	}
	for at := labelHome(label, len(x.labels)); ; at++ {
		if at == len(x.labels) {
			at = 0
		}
		e := &x.labels[at]
		if e.marks == (marks{}) {
			return marks{}
		}
		if e.label == label {
			return e.marks
		}
	}
}

// add puts a rule in force. The lock is held.
func (x *rules) add(r Rule) {
	x.seq++
	x.place(r, x.seq)
}

// place enters a rule with its number.
func (x *rules) place(r Rule, seq uint64) {
	switch {
	case len(r.Groups) == 0:
		x.all.set(r.Soft, seq)
	case len(r.Groups) == 1:
		for _, l := range r.Groups[0] {
			x.slot(l).set(r.Soft, seq)
		}
	default:
		groups := make([][]uint32, len(r.Groups))
		for i := range groups {
			groups[i] = slices.Clone(r.Groups[i])
		}
		x.conjunctions = append(x.conjunctions, conjunction{rule: Rule{groups, r.Soft}, seq: seq})
	}
}

func (m marks) of(soft bool) uint64 {
	if soft {
		return m.soft
	}
	return m.hard
}

func (m *marks) set(soft bool, seq uint64) {
	if soft {
		m.soft = seq
	} else {
		m.hard = seq
	}
}

// slot returns the marks of a label, making them. They must be set then.
func (x *rules) slot(label uint32) *marks {
	if (x.used+1)*2 > len(x.labels) {
		old := x.labels
		x.labels = make([]labelRule, max(2*len(old), 64))
		x.used = 0
		for _, e := range old {
			if e.marks != (marks{}) {
				*x.slot(e.label) = e.marks
			}
		}
	}
	at := labelHome(label, len(x.labels))
	for x.labels[at].marks != (marks{}) && x.labels[at].label != label {
		if at++; at == len(x.labels) {
			at = 0
		}
	}
	if x.labels[at].marks == (marks{}) {
		x.used++
		x.labels[at].label = label
	}
	return &x.labels[at].marks
}

// full reports whether the rules have room for no more than what they have.
func (x *rules) full(r Rule) bool {
	n := 0
	if len(r.Groups) == 1 {
		n = len(r.Groups[0])
	}
	return x.used+n > rulesMax || len(r.Groups) > 1 && len(x.conjunctions) >= conjunctionsMax
}

// forget drops the rules up to a number, against which all entries were checked. The
// lock is held.
func (x *rules) forget(floor uint64) {
	x.floor = max(x.floor, floor)
	old := x.labels
	x.labels, x.used = nil, 0
	for _, e := range old {
		if max(e.hard, e.soft) > floor {
			*x.slot(e.label) = e.marks
		}
	}
	x.conjunctions = slices.DeleteFunc(x.conjunctions, func(c conjunction) bool { return c.seq <= floor })
	if max(x.all.hard, x.all.soft) <= floor {
		x.all = marks{}
	}
}

// Seq returns the number of the last rule in force: what is asked for now is not
// touched by any purge so far.
func (s *Store) Seq() uint64 { return s.seq.Load() }

// Purge makes all entries that match dead, or stale if the rule is soft: those that
// are stored, and those whose Born is from before. It is in force when it returns and
// takes a time that depends on its labels alone; entries are found out one by one as
// they are read, evicted or swept. It returns the number of the rule.
func (s *Store) Purge(r Rule) (seq uint64) {
	r = r.normal()
	w := &watch{}
	for !s.tryPurge(r, w) {
		// Slow path: there is no room for the rule, so the others are made needless.
		s.sweepNow()
	}
	return w.seq
}

// tryPurge puts a rule in force if there is room for it, and has w count what it hits
// if w has it too.
func (s *Store) tryPurge(r Rule, w *watch) bool {
	x := &s.rules
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.full(r) || x.kept != nil && !x.kept.log(x.seq+1, r) {
		return false
	}
	x.add(r)
	w.seq = x.seq
	if w.counts {
		s.sweeper.watch.Store(w) // before anyone can find that the rule is in force
	}
	s.seq.Store(x.seq)
	return true
}

// settle checks an entry against the rules since it was last checked, and kills or
// marks it. It reports whether the entry lives. Any lock is held.
func (sh *shard) settle(g *segment, r record) bool {
	s := sh.store
	for {
		w := r.state()
		if w == 0 {
			return false
		}
		if w.seq() >= s.seq.Load() {
			return true
		}
		s.rules.mu.RLock()
		v := s.rules.judgeRecord(r, w.seq())
		s.rules.mu.RUnlock()
		if v.dead {
			if sh.kill(g, r, w) {
				sh.counts.purged.Add(1)
				s.sweeper.witness(r, w.seq())
			}
			return false
		}
		if r.swapState(w, makeState(v.seq, w.soft() || v.soft)) {
			if v.soft {
				s.sweeper.witness(r, w.seq())
			}
			return true
		}
	}
}
