//go:build unix && !heaparena

package cache

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func fileConfig(t testing.TB) Config {
	return Config{Bytes: 4 << 20, ObjectMax: 400 << 10, File: filepath.Join(t.TempDir(), "store"), Format: 7}
}

// setProofs stores n entries of many sizes, as version says.
func setProofs(t testing.TB, s *Store, n int, version uint64) {
	t.Helper()
	for i := range n {
		key := proofKey(i)
		p := Put{Key: []byte(key), Head: []byte("head of " + key), Labels: []uint32{1, uint32(100 + i)}, Expires: 1e12, Born: s.Seq()}
		if err := s.Set(&p, proof(key, version, proofSize(i)), 0); err != nil {
			t.Fatal(err)
		}
	}
}

func proofSize(i int) int {
	if i%50 == 49 {
		return 200<<10 + i
	}
	return i * 37 % 3000
}

// checkProofs looks all entries up and returns how many there are.
func checkProofs(t testing.TB, s *Store, n int, version uint64) (found int) {
	t.Helper()
	var v View
	for i := range n {
		key := proofKey(i)
		if !s.Get([]byte(key), 1, &v) {
			continue
		}
		got, err := proven(key, body(t, &v))
		if err != nil || got != version || string(v.Head) != "head of "+key {
			t.Fatalf("%s: version %d, want %d, head %q: %v", key, got, version, v.Head, err)
		}
		v.Close()
		found++
	}
	return found
}

func TestFileRestart(t *testing.T) {
	c := fileConfig(t)
	s := mustOpen(t, c, 0)
	if s.Recovered().Why != "it is new" {
		t.Errorf("a new file: %+v", s.Recovered())
	}
	setProofs(t, s, 500, 1)
	setProofs(t, s, 250, 1)
	s.Delete([]byte(proofKey(3)))
	s.Purge(Rule{Groups: [][]uint32{{104}}})
	s.Purge(Rule{Groups: [][]uint32{{1}, {105}}})
	s.Purge(Rule{Groups: [][]uint32{{106}}, Soft: true})
	p := Put{Key: []byte("short"), Expires: 10}
	if err := s.Set(&p, nil, 0); err != nil {
		t.Fatal(err)
	}
	before, seq := checkProofs(t, s, 500, 1), s.Seq()
	if err := s.Close(0); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s = mustOpen(t, c, 20)
		if r := s.Recovered(); r.Why != "" || r.Dropped != 0 {
			t.Fatalf("recovered %+v", r)
		}
		if got := checkProofs(t, s, 500, 1); got != before || before != 497 {
			t.Errorf("%d entries before, %d after", before, got)
		}
		var v View
		if s.Get([]byte("short"), 1, &v) {
			t.Error("what had expired is back")
		}
		if !s.Get([]byte(proofKey(6)), 1, &v) || !v.Soft {
			t.Error("a soft purge is forgotten")
		}
		v.Close()
		if s.Seq() != seq {
			t.Errorf("sequence %d, want %d", s.Seq(), seq)
		}
		checkInside(t, s)
		if err := s.Close(20); err != nil {
			t.Fatal(err)
		}
		s.Purge(Rule{}) // changes nothing any more, and touches no memory that is gone
		s.Sweep(1 << 40)
		s.Resize(1 << 20)
		s.Stats()
	}
}

// The journal has an end: rules that have no room are replaced by looking at all
// entries.
func TestFileManyPurges(t *testing.T) {
	c := fileConfig(t)
	s := mustOpen(t, c, 0)
	setProofs(t, s, 300, 1)
	for i := range uint32(40_000) {
		s.Purge(Rule{Groups: [][]uint32{{1000 + i}}, Soft: i%2 == 0})
		s.Purge(Rule{Groups: [][]uint32{{1000 + i}, {2000 + i}}})
	}
	s.Purge(Rule{Groups: [][]uint32{{107}}})
	if err := s.Close(0); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, c, 0)
	defer s.Close(0)
	if got := checkProofs(t, s, 300, 1); got != 299 || s.Seq() != 80_001 {
		t.Errorf("%d entries, sequence %d: %+v", got, s.Seq(), s.Recovered())
	}
	p := Put{Key: []byte("old"), Born: 5, Expires: 10}
	if err := s.Set(&p, nil, 0); err != ErrPurged {
		t.Errorf("fetched before rules that are forgotten: %v", err)
	}
}

func TestFileRefused(t *testing.T) {
	f := func(change func(c *Config), want string) {
		t.Helper()
		c := fileConfig(t)
		s := mustOpen(t, c, 0)
		setProofs(t, s, 50, 1)
		if err := s.Close(0); err != nil {
			t.Fatal(err)
		}
		change(&c)
		s = mustOpen(t, c, 0)
		defer s.Close(0)
		if got := s.Recovered().Why; !strings.Contains(got, want) || s.Recovered().Entries != 0 {
			t.Errorf("got %+v, want %q", s.Recovered(), want)
		}
		setProofs(t, s, 50, 2)
		if checkProofs(t, s, 50, 2) != 50 {
			t.Error("it does not store any more")
		}
	}
	write := func(c *Config, at int64, b ...byte) {
		h, err := os.OpenFile(c.File, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if _, err := h.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	truncate := func(c *Config, n int64) {
		if err := os.Truncate(c.File, n); err != nil {
			t.Fatal(err)
		}
	}
	f(func(c *Config) { c.Format = 8 }, "its format is 7, want 8")
	f(func(c *Config) { c.ObjectMax, c.Bytes = 32<<20, 64<<20-1 }, "larger store")
	f(func(c *Config) { write(c, versionAt, 99) }, "header is damaged")
	f(func(c *Config) { write(c, magicAt, 'x') }, "no store")
	f(func(c *Config) { write(c, bootAt, 1) }, "machine went down")
	f(func(c *Config) { write(c, journalAt, 9) }, "journal of purges")
	f(func(c *Config) { truncate(c, 0) }, "new")
	f(func(c *Config) { truncate(c, 100) }, "no store")
	f(func(c *Config) { truncate(c, filePage) }, "truncated")
}

func TestFileErrors(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		s, err := Open(Config{File: path}, 0)
		if err == nil {
			s.Close(0)
			t.Errorf("%q: no error", path)
			return
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %q, want %q", err, want)
		}
	}
	f(t.TempDir(), "is a directory")
	f(filepath.Join(t.TempDir(), "none", "store"), "no such file")
	c := fileConfig(t)
	s := mustOpen(t, c, 0)
	f(c.File, "in use by another process")
	setProofs(t, s, 50, 1)
	var v View
	if !s.Get([]byte(proofKey(49)), 0, &v) {
		t.Fatal("not there")
	}
	if err := s.Close(0); err != nil {
		t.Fatal(err)
	}
	f(c.File, "in use by another process") // its memory is still read
	if _, err := proven(proofKey(49), body(t, &v)); err != nil {
		t.Error(err)
	}
	v.Close()
	s = mustOpen(t, c, 0)
	defer s.Close(0)
	if got := checkProofs(t, s, 50, 1); got != 50 {
		t.Errorf("%d entries", got)
	}
}

func TestFileTruncatedAndResized(t *testing.T) {
	f := func(size, file int64, least int) {
		t.Helper()
		c := fileConfig(t)
		s := mustOpen(t, c, 0)
		setProofs(t, s, 600, 1)
		if err := s.Close(0); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(c.File)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(c.File, min(file, info.Size())); err != nil {
			t.Fatal(err)
		}
		c.Bytes = size
		s = mustOpen(t, c, 0)
		defer s.Close(0)
		if got := checkProofs(t, s, 600, 1); got < least || s.Recovered().Why != "" {
			t.Errorf("%d bytes: %d entries: %+v", size, got, s.Recovered())
		}
		checkInside(t, s)
		if held := s.Stats().Resident; held > size {
			t.Errorf("%d bytes: %d resident", size, held)
		}
		setProofs(t, s, 600, 2)
		checkProofs(t, s, 600, 2)
	}
	const whole = 1 << 40
	f(4<<20, whole, 590)
	f(8<<20, whole, 590)
	f(64<<20, whole, 590)
	f(2<<20, whole, 300)
	f(4<<20, fileDataAt+1<<20, 10)
	f(4<<20, fileDataAt+1<<20+12345, 10)
	f(4<<20, fileDataAt, 0)
}

// Whatever byte of the file is damaged, what is found is right.
func TestFileDamage(t *testing.T) {
	c := fileConfig(t)
	s := mustOpen(t, c, 0)
	setProofs(t, s, 300, 1)
	setProofs(t, s, 300, 2)
	s.Purge(Rule{Groups: [][]uint32{{101}}})
	if err := s.Close(0); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	found, rnd := 0, rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		b := bytes.Clone(good)
		for range 1 + i%40 {
			damage(b, rnd)
		}
		if err := os.WriteFile(c.File, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, c, 0)
		found += checkProofs(t, s, 300, 2)
		var v View
		if s.Get([]byte(proofKey(1)), 1, &v) {
			t.Fatal("what was purged is back")
		}
		checkInside(t, s)
		setProofs(t, s, 300, 2)
		checkProofs(t, s, 300, 2)
		if err := s.Close(0); err != nil {
			t.Fatal(err)
		}
	}
	if found < 40*100 {
		t.Errorf("only %d found", found)
	}
}

// damage changes a byte where something was written.
func damage(b []byte, rnd *rand.Rand) {
	for {
		at := fileDataAt + rnd.IntN(len(b)-fileDataAt)
		if rnd.IntN(100) == 0 {
			at = rnd.IntN(fileDataAt) // the header, mostly empty
		}
		if rnd.IntN(10) == 0 {
			at = at&^0x7fff + rnd.IntN(200) // the beginning of a segment
		}
		if b[at] != 0 || rnd.IntN(50) == 0 {
			b[at] ^= byte(1 + rnd.IntN(255))
			return
		}
	}
}

func FuzzFile(f *testing.F) {
	c := Config{Bytes: 1 << 20, ObjectMax: 300 << 10, File: filepath.Join(f.TempDir(), "store")}
	s := mustOpen(f, c, 0)
	setProofs(f, s, 60, 2)
	s.Purge(Rule{Groups: [][]uint32{{101}}})
	if err := s.Close(0); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(c.File)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(fileDataAt+segmentHeader), []byte{1, 2, 3})
	f.Add(uint32(fileDataAt+segmentHeader+shapeAt), []byte{0xff, 0xff})
	f.Add(uint32(filePage), []byte{0xff})
	f.Fuzz(func(t *testing.T, at uint32, b []byte) {
		bad := bytes.Clone(good)
		for i, x := range b {
			bad[(int(at)+i)%len(bad)] ^= x
		}
		c := c
		c.File = filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(c.File, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, c, 0)
		defer s.Close(0)
		checkProofs(t, s, 60, 2)
		checkInside(t, s)
		setProofs(t, s, 60, 2)
	})
}

const killedFile = "SLUICE_CACHE_KILLED_FILE"

// writeUntilKilled is what TestFileKilled runs in another process, and kills.
func writeUntilKilled(t *testing.T, path string) {
	s := mustOpen(t, Config{Bytes: 4 << 20, ObjectMax: 400 << 10, File: path}, 0)
	acks, err := os.OpenFile(path+".acks", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(rand.Uint64(), 1))
	fmt.Println("ready", s.Recovered().Entries)
	b := make([]byte, 8)
	for version := uint64(1); ; version++ {
		i := rnd.IntN(killedKeys)
		key := proofKey(i)
		// The acknowledged version of a key is a lower bound for what is found later:
		// it is written once the store has taken the entry or the purge.
		switch rnd.IntN(10) {
		case 0:
			s.Purge(Rule{Groups: [][]uint32{{uint32(i)}}})
		case 1:
			s.Delete([]byte(key))
		case 2:
			s.Sweep(int64(version))
			continue
		default:
			p := Put{Key: []byte(key), Labels: []uint32{uint32(i)}, Expires: 1 << 40, Born: s.Seq()}
			if err := s.Set(&p, proof(key, version, proofSize(rnd.IntN(1000))), 0); err != nil {
				t.Fatal(err)
			}
			version++ // so that the entry itself is not below its bound
			binary.LittleEndian.PutUint64(b, version-1)
			acks.WriteAt(b, int64(8*i))
			continue
		}
		binary.LittleEndian.PutUint64(b, version)
		acks.WriteAt(b, int64(8*i))
	}
}

const killedKeys = 400

func TestFileKilled(t *testing.T) {
	if path := os.Getenv(killedFile); path != "" {
		writeUntilKilled(t, path)
		return
	}
	if bootID() == 1 {
		t.Fatal("this system does not tell its lives apart: a file survives a kill on Linux only")
	}
	for round := range 2 {
		path := filepath.Join(t.TempDir(), "store")
		found := 0
		for restart := range 3 {
			_ = os.Remove(path + ".acks")
			killChild(t, path, 6000*(round+1)+7777*restart)
			found += checkKilled(t, path)
			_ = os.Remove(path)
		}
		if found < 100 {
			t.Errorf("only %d entries found", found)
		}
	}
}

// killChild lets a child write until it has acknowledged for a while.
func killChild(t *testing.T, path string, acks int) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestFileKilled$")
	cmd.Env = append(os.Environ(), killedFile+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, "ready") {
		t.Fatalf("child says %q", line)
	}
	for {
		b, err := os.ReadFile(path + ".acks")
		if err != nil {
			t.Fatal(err)
		}
		most := uint64(0)
		for ; len(b) >= 8; b = b[8:] {
			most = max(most, binary.LittleEndian.Uint64(b))
		}
		if most >= uint64(acks) {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func checkKilled(t *testing.T, path string) (found int) {
	acks, err := os.ReadFile(path + ".acks")
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, Config{Bytes: 4 << 20, ObjectMax: 400 << 10, File: path}, 0)
	defer s.Close(0)
	if s.Recovered().Why != "" || s.Recovered().Dropped > 1 {
		t.Errorf("recovered %+v", s.Recovered())
	}
	checkInside(t, s)
	var v View
	for i := range killedKeys {
		key := proofKey(i)
		if !s.Get([]byte(key), 0, &v) {
			continue
		}
		found++
		version, err := proven(key, body(t, &v))
		v.Close()
		least := uint64(0)
		if len(acks) >= 8*i+8 {
			least = binary.LittleEndian.Uint64(acks[8*i:])
		}
		if err != nil || version < least {
			t.Fatalf("%s: version %d, acknowledged %d: %v", key, version, least, err)
		}
	}
	return found
}
