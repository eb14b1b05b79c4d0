package cache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// model is what a store would hold if it never forgot anything.
type model struct {
	t       *testing.T
	s       *Store
	rnd     *rand.Rand
	entries map[string]*modelEntry
	rules   []modelRule
	writers []*modelWriter
	now     int64
	hits    int
	open    []*modelView
}

type modelEntry struct {
	head, body []byte
	labels     []uint32
	expires    int64
	soft       bool
}

type modelRule struct {
	Rule
	seq uint64
}

type modelWriter struct {
	w    *Writer
	put  Put
	body []byte
}

type modelView struct {
	v    View
	body []byte
}

func newModel(t *testing.T, c Config, seed uint64) *model {
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), entries: map[string]*modelEntry{}, now: 1_000_000}
	m.s = mustOpen(t, c, m.now)
	return m
}

func mustOpen(t testing.TB, c Config, now int64) *Store {
	t.Helper()
	s, err := Open(c, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (m *model) bytes(n int) []byte {
	b := make([]byte, n)
	x := m.rnd.Uint64()
	for i := range b {
		b[i] = byte(x >> (i % 8 * 8))
		if i%8 == 7 {
			x = x*6364136223846793005 + 1442695040888963407
		}
	}
	return b
}

func (m *model) size() int {
	switch m.rnd.IntN(20) {
	case 0:
		return m.rnd.IntN(int(m.s.ObjectMax()))
	case 1, 2, 3:
		return m.rnd.IntN(min(64<<10, int(m.s.ObjectMax())))
	case 4:
		return 0
	}
	return m.rnd.IntN(2000)
}

func (m *model) key() string { return fmt.Sprintf("key %d", m.rnd.IntN(300)) }

func (m *model) put() Put {
	p := Put{Key: []byte(m.key()), Head: m.bytes(m.rnd.IntN(100)), Born: m.s.Seq()}
	if m.rnd.IntN(30) == 0 {
		p.Head = m.bytes(m.rnd.IntN(8000))
	}
	for range m.rnd.IntN(5) {
		p.Labels = append(p.Labels, m.rnd.Uint32N(12))
	}
	p.Expires = m.now + 1 + m.rnd.Int64N(3000)
	if back := m.rnd.Uint64N(8); back < 2 {
		p.Born -= min(back, p.Born)
	}
	return p
}

// judge says what the purges since an entry was born do to it.
func (m *model) judge(labels []uint32, born uint64) (dead, soft bool) {
	for _, r := range m.rules {
		if r.seq > born && r.matches(func(l uint32) bool { return slices.Contains(labels, l) }) {
			dead, soft = dead || !r.Soft, soft || r.Soft
		}
	}
	return dead, soft
}

func (m *model) stored(p *Put, body []byte, err error) {
	m.t.Helper()
	dead, soft := m.judge(p.Labels, p.Born)
	switch {
	case err == nil && dead:
		m.t.Fatal("stored what was purged")
	case err == nil:
		m.entries[string(p.Key)] = &modelEntry{
			head: bytes.Clone(p.Head), body: bytes.Clone(body), labels: slices.Clone(p.Labels), expires: p.Expires, soft: soft,
		}
	case err == ErrPurged && !dead && p.Born >= m.s.rules.floor:
		m.t.Fatal("purged without a purge")
	case err == ErrFull || err == ErrTooLarge || err == ErrPurged || err == ErrMissing:
	default:
		m.t.Fatal(err)
	}
}

func (m *model) step() {
	m.now += m.rnd.Int64N(5)
	switch n := m.rnd.IntN(100); {
	case n < 30:
		p := m.put()
		body := m.bytes(m.size())
		m.stored(&p, body, m.s.Set(&p, body, m.now))
	case n < 60:
		m.get(m.key())
	case n < 64:
		key := m.key()
		m.s.Delete([]byte(key))
		delete(m.entries, key)
	case n < 67:
		m.purge()
	case n < 74:
		m.setHead()
	case n < 78:
		m.create()
	case n < 90:
		m.write()
	case n < 91:
		m.s.Resize(int64(1+m.rnd.IntN(4)) << 20)
	case n < 92:
		m.s.Sweep(m.now)
		m.now += m.rnd.Int64N(200)
	case n < 96:
		m.openView()
	default:
		m.closeView()
	}
}

func (m *model) find(key string) *modelEntry {
	e := m.entries[key]
	if e != nil && e.expires <= m.now {
		delete(m.entries, key)
		return nil
	}
	return e
}

func (m *model) get(key string) {
	m.t.Helper()
	var v View
	found := m.s.Get
	if m.rnd.IntN(4) == 0 {
		found = m.s.Peek
	}
	if !found([]byte(key), m.now, &v) {
		return
	}
	m.hits++
	m.check(key, &v)
	v.Close()
	v.Close()
}

func (m *model) check(key string, v *View) {
	m.t.Helper()
	e := m.find(key)
	if e == nil {
		m.t.Fatalf("%s: found what is gone", key)
	}
	if !bytes.Equal(v.Head, e.head) || v.Size != int64(len(e.body)) || v.Soft != e.soft || v.Expires != e.expires {
		m.t.Fatalf("%s: head %d want %d, size %d want %d, soft %v want %v", key,
			len(v.Head), len(e.head), v.Size, len(e.body), v.Soft, e.soft)
	}
	if (v.Body != nil) != (len(e.body)+len(e.head) <= WholeMax) {
		m.t.Fatalf("%s: body whole: %v, size %d", key, v.Body != nil, v.Size)
	}
	if v.Body != nil && !bytes.Equal(v.Body, e.body) {
		m.t.Fatalf("%s: wrong body", key)
	}
	checkReadAt(m.t, v, e.body)
}

func checkReadAt(t *testing.T, v *View, want []byte) {
	t.Helper()
	got := make([]byte, len(want)+1)
	if n, err := v.ReadAt(got, 0); n != len(want) || err == nil || !bytes.Equal(got[:n], want) {
		t.Fatalf("read %d, %v, want %d", n, err, len(want))
	}
	if len(want) < 2 {
		return
	}
	half := len(want) / 2
	if n, err := v.ReadAt(got[:len(want)-half], int64(half)); err != nil || !bytes.Equal(got[:n], want[half:]) {
		t.Fatalf("read %d, %v from the middle", n, err)
	}
}

func (m *model) purge() {
	r := Rule{Soft: m.rnd.IntN(2) == 0}
	for range 1 + m.rnd.IntN(2) {
		group := []uint32{}
		for range 1 + m.rnd.IntN(2) {
			group = append(group, m.rnd.Uint32N(12))
		}
		r.Groups = append(r.Groups, group)
	}
	if m.rnd.IntN(20) == 0 {
		r.Groups = nil
	}
	want := 0
	for key := range m.entries {
		e := m.find(key)
		if e == nil || !r.matches(func(l uint32) bool { return slices.Contains(e.labels, l) }) {
			continue
		}
		want++
		if r.Soft {
			e.soft = true
		} else {
			delete(m.entries, key)
		}
	}
	if m.rnd.IntN(4) == 0 {
		if got := m.s.PurgeNow(r, m.now); got > want {
			m.t.Fatalf("purged %d, at most %d were there", got, want)
		}
	} else {
		m.s.Purge(r)
	}
	m.rules = append(m.rules, modelRule{r, m.s.Seq()})
}

func (m *model) setHead() {
	p := m.put()
	e := m.find(string(p.Key))
	err := m.s.SetHead(&p, nil, m.now)
	if e == nil {
		if err == nil {
			m.t.Fatal("new head of what is gone")
		}
		return
	}
	m.stored(&p, e.body, err)
}

func (m *model) create() {
	if len(m.writers) > 6 {
		return
	}
	p := m.put()
	w, err := m.s.Create(&p, -1, m.now)
	if err != nil {
		m.stored(&p, nil, err)
		return
	}
	m.writers = append(m.writers, &modelWriter{w: w, put: p})
}

func (m *model) write() {
	if len(m.writers) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.writers))
	w := m.writers[i]
	switch m.rnd.IntN(5) {
	case 0:
		m.writers = slices.Delete(m.writers, i, i+1)
		w.w.Hold()
		if m.rnd.IntN(3) == 0 {
			w.w.Abort()
			w.w.Abort()
		} else {
			m.stored(&w.put, w.body, w.w.Commit(m.now))
		}
		m.checkWriter(w)
		w.w.Release()
	default:
		b := m.bytes(m.size() / 2)
		n, err := w.w.Write(b)
		if err != nil && err != ErrTooLarge && err != ErrFull || err != nil && n != 0 {
			m.t.Fatal(n, err)
		}
		w.body = append(w.body, b[:n]...)
		m.checkWriter(w)
	}
}

func (m *model) checkWriter(w *modelWriter) {
	m.t.Helper()
	got := make([]byte, len(w.body)+1)
	if n := w.w.ReadAt(got, 0); n != len(w.body) || !bytes.Equal(got[:n], w.body) || w.w.Written() != int64(n) {
		m.t.Fatalf("writer reads %d of %d", n, len(w.body))
	}
}

func (m *model) openView() {
	key := m.key()
	o := &modelView{}
	if len(m.open) < 20 && m.s.Get([]byte(key), m.now, &o.v) {
		m.check(key, &o.v)
		o.body = m.find(key).body
		m.open = append(m.open, o)
	}
}

func (m *model) closeView() {
	if len(m.open) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.open))
	o := m.open[i]
	m.open = slices.Delete(m.open, i, i+1)
	checkReadAt(m.t, &o.v, o.body)
	o.v.Close()
}

// end checks that nothing is held any more, and what the store says of itself.
func (m *model) end() {
	m.t.Helper()
	for _, w := range m.writers {
		w.w.Abort()
	}
	for len(m.open) > 0 {
		m.closeView()
	}
	m.s.Sweep(m.now)
	checkInside(m.t, m.s)
	for key := range m.entries {
		m.get(key)
	}
}

// checkInside checks what must hold inside a store that nobody uses.
func checkInside(t *testing.T, s *Store) {
	t.Helper()
	for i := range s.shards {
		sh := &s.shards[i]
		entries, held := 0, 0
		var small, main int64
		for _, g := range sh.segs {
			if g.kind != kindFree {
				held++
			}
			if g.kind != kindSmall && g.kind != kindMain {
				continue
			}
			live := int64(0)
			weight := int64(len(g.mem))
			g.records(func(at uint32, r record) {
				_, slot := sh.slotOf(g, at, r)
				if r.state() != 0 {
					entries++
					live += int64(r.shape().size())
					if slot < 0 {
						t.Fatal("a live record without a slot")
					}
				}
				if first := sh.runOf(r); slot >= 0 && first != nil {
					if first.kind != kindPart || first.pins.Load() != 0 && first.pins.Load() != 1 {
						t.Fatalf("run of kind %d, pins %x", first.kind, first.pins.Load())
					}
					weight += int64(first.count) * int64(len(g.mem))
				}
			})
			if live != g.live.Load() || weight != g.weight {
				t.Fatalf("segment: live %d says %d, weight %d says %d", live, g.live.Load(), weight, g.weight)
			}
			if g.kind == kindSmall {
				small += weight
			} else {
				main += weight
			}
		}
		if int64(entries) != sh.entries.Load() || held != sh.held || sh.limbo.Load() != 0 || sh.writing != 0 {
			t.Fatalf("shard: %d entries says %d, %d held says %d, limbo %d, writing %d",
				entries, sh.entries.Load(), held, sh.held, sh.limbo.Load(), sh.writing)
		}
		if small != sh.small.weight || main != sh.main.weight {
			t.Fatalf("queues weigh %d and %d, say %d and %d", small, main, sh.small.weight, sh.main.weight)
		}
		if sh.held > sh.limit() || sh.touched > sh.limit() {
			t.Fatalf("%d held, %d touched, %d may be", sh.held, sh.touched, sh.limit())
		}
	}
}

func TestModel(t *testing.T) {
	hits := 0
	for seed := range uint64(12) {
		m := newModel(t, Config{Bytes: int64(1+seed%3) << 20, ObjectMax: 300 << 10}, seed)
		for range 4000 {
			m.step()
		}
		m.end()
		hits += m.hits
		if err := m.s.Close(m.now); err != nil {
			t.Fatal(err)
		}
	}
	if hits < 2000 {
		t.Errorf("only %d hits: this tests nothing", hits)
	}
}
