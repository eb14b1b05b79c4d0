package proxycache

import (
	"bytes"
	"encoding/hex"
	"slices"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Purge implements pipeline.Purger. With Redis every gateway that shares it does the
// same within a moment.
func (s *shelf) Purge(p *pipeline.Purge) (purged int) {
	r, ok := s.rule(p)
	if !ok {
		return 0
	}
	for _, r := range split(r) {
		s.tell(r)
		purged += s.store.PurgeNow(r, s.now())
	}
	return purged
}

// PurgeSoon implements pipeline.Purger.
func (s *shelf) PurgeSoon(any []*pipeline.Purge) {
	together := map[bool]cache.Rule{} // by softness: what has one condition is one rule
	var rules []cache.Rule
	for _, p := range any {
		r, ok := s.rule(p)
		switch {
		case !ok:
		case len(r.Groups) == 1 && len(together[r.Soft].Groups) == 1:
			t := together[r.Soft]
			t.Groups[0] = append(t.Groups[0], r.Groups[0]...)
		case len(r.Groups) == 1:
			together[r.Soft] = r
		default:
			rules = append(rules, r)
		}
	}
	for _, r := range together {
		rules = append(rules, split(r)...)
	}
	for _, r := range rules {
		s.tell(r)
		s.store.Purge(r)
	}
	s.unswept.Store(true)
}

// split makes several rules of one whose labels are more than the store takes: for a path
// there is one for each service.
func split(r cache.Rule) []cache.Rule {
	for i, group := range r.Groups {
		if len(group) <= cache.RuleLabelsMax {
			continue
		}
		head, tail := r, r
		head.Groups, tail.Groups = slices.Clone(r.Groups), slices.Clone(r.Groups)
		head.Groups[i], tail.Groups[i] = group[:cache.RuleLabelsMax], group[cache.RuleLabelsMax:]
		return append(split(head), split(tail)...)
	}
	return []cache.Rule{r}
}

// drop takes back what has a label, as PurgeSoon does.
func (s *shelf) drop(l uint32) {
	r := cache.Rule{Groups: [][]uint32{{l}}}
	s.tell(r)
	s.store.Purge(r)
	s.unswept.Store(true)
}

// tell has the other gateways do the same. It comes before the purge here, after which
// nothing that matches may come back from Redis.
func (s *shelf) tell(r cache.Rule) {
	for _, t := range s.behindIt() {
		t.publish(r)
	}
}

// rule is p in the words of the store. ok is false where nothing can meet it.
func (s *shelf) rule(p *pipeline.Purge) (r cache.Rule, ok bool) {
	r.Soft = p.Soft
	one := func(kind byte, text string) {
		if text != "" {
			r.Groups = append(r.Groups, []uint32{label(kind, []byte(text))})
		}
	}
	if len(p.Keys) > 0 {
		keys := make([]uint32, 0, len(p.Keys))
		for _, k := range p.Keys {
			keys = append(keys, label(labelKey, []byte(k)))
		}
		r.Groups = append(r.Groups, keys)
	}
	if p.Path != "" {
		r.Groups = append(r.Groups, s.pathLabels(p))
	} else {
		one(labelService, p.Service) // a path's labels name the service already
	}
	one(labelRoute, p.Route)
	one(labelPlugin, p.Plugin)
	if p.Entry != "" {
		name, err := hex.DecodeString(p.Entry)
		if err != nil || len(name) < entryBytes {
			return r, false
		}
		r.Groups = append(r.Groups, []uint32{label(labelEntry, name[:entryBytes])})
	}
	return r, true
}

// entryBytes is how much of a digest names an entry: proxy-cache-advanced shows no more.
const entryBytes = 16

// pathLabels are the labels of a path at each service that has answers here, in the
// letters given and in lower case, which is what ignore_uri_case keeps.
func (s *shelf) pathLabels(p *pipeline.Purge) []uint32 {
	var labels []uint32
	add := func(service string) {
		path := []byte(p.Path)
		for _, path := range slices.CompactFunc([][]byte{path, bytes.ToLower(path)}, bytes.Equal) {
			if p.Exact {
				labels = append(labels, pathLabel(labelExact, service, trimSlash(path)))
			} else {
				labels = append(labels, belowLabel(service, path))
			}
		}
	}
	if p.Service != "" {
		add(p.Service)
		return labels
	}
	s.services.Range(func(id, _ any) bool {
		add(id.(string))
		return true
	})
	return labels
}

// Answer implements pipeline.Answerer.
func (s *shelf) Answer(key, plugin string) (a pipeline.KeptAnswer, ok bool) {
	name, err := hex.DecodeString(key)
	if err != nil || len(name) < entryBytes {
		return a, false
	}
	of := uint32(0)
	if plugin != "" {
		of = label(labelPlugin, []byte(plugin))
	}
	full := s.keyOf(name[:entryBytes], of)
	for _, t := range s.behindIt() {
		if full == nil && of == 0 {
			full = t.fetch(t.nameOf(name[:entryBytes]))
		}
	}
	var v cache.View
	if full == nil || !s.store.Peek(full, s.now(), &v) {
		return a, false
	}
	defer v.Close()
	var h head
	if !h.read(v.Head) || h.kind != kindAnswer {
		return a, false
	}
	body := make([]byte, v.Size)
	if n, _ := v.ReadAt(body, 0); int64(n) < v.Size { // its error says no more
		return a, false
	}
	a = pipeline.KeptAnswer{Key: hex.EncodeToString(h.digest[:]), Status: int(h.status), Body: body, Stored: h.stored, TTL: h.lifetime / 1000}
	for rest := h.fields; len(rest) > 0; {
		var n, value []byte
		n, value, rest = pipeline.CutField(rest)
		a.Fields = append(a.Fields, [2]string{string(n), string(value)})
	}
	return a, true
}

// keyOf finds the key of the entry that a digest begins the name of, among those with
// the label of; nil if there is none.
func (s *shelf) keyOf(name []byte, of uint32) (key []byte) {
	var h head
	named := func(k, b []byte, _, _ int64) bool {
		if h.read(b) && h.kind == kindAnswer && bytes.Equal(h.digest[:entryBytes], name) {
			key = bytes.Clone(k)
		}
		return key == nil
	}
	if of == 0 {
		of = label(labelEntry, name)
	}
	s.store.Each(of, named)
	return key
}
