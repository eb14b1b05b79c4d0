package proxycache

import (
	"slices"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// log adds the surrogate keys that hooks have put on an answer after it was kept, such as
// response-transformer's: the header is final only now. Where no hook can have, it is not
// looked at.
func (i *instance) log(x *pipeline.Exchange) {
	if x.Raw || !i.tags {
		return // Fast path.
	}
	v, _ := x.Ctx.UserValue(i).(*visit)
	if v == nil || !v.kept {
		return
	}
	before := len(v.answer.labels)
	for name, value := range x.Ctx.Response.Header.All() {
		switch string(name) {
		case "Surrogate-Key":
			v.answer.addKeys(value, ' ')
		case "Cache-Tag":
			v.answer.addKeys(value, ',')
		}
	}
	if v.answer.dropKnown(before) {
		v.relabel()
	}
}

// dropKnown takes those of the labels from a place on away that stand before it, and
// reports whether any is left.
func (a *answer) dropKnown(from int) bool {
	left := a.labels[:from]
	for _, l := range a.labels[from:] {
		if !slices.Contains(left, l) {
			left = append(left, l)
		}
	}
	a.labels = left
	return len(left) > from
}

// relabel gives what was kept for x the labels of v's answer; where that is not possible
// it goes, since it could not be purged as its keys promise.
func (v *visit) relabel() {
	var old cache.View
	s := v.shelf
	if len(v.answer.labels) <= cache.LabelsMax && s.store.Peek(v.full, s.now(), &old) {
		defer old.Close()
		p := cache.Put{Key: v.full, Head: old.Head, Labels: v.answer.labels, Expires: old.Expires, Born: v.born}
		if s.store.SetHead(&p, old.Head, s.now()) == nil {
			if v.tier != nil && old.Body != nil {
				v.tier.give(&p, v.moment, old.Body)
			}
			return
		}
	}
	d := digest(v.full)
	s.drop(label(labelEntry, d[:entryBytes]))
}
