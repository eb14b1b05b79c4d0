package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
)

// Keys are keys, all of one length, in the order in which they are asked for. They lie
// one behind the other, so that a core has fetched the next by the time it is wanted: in
// a gateway the key was just written. Immutable; safe for concurrent use.
type Keys struct {
	text  string
	bytes []byte
	size  int
	mask  int
}

// entryKeyFormat is the key of a stored answer, with a number.
const entryKeyFormat = "mobile-app:catalogue-items|GET|http://api.example.com|/v1/catalogue/items/%09d|lang=en&page=2"

// EntryKeyTail is what follows the number in the key of an entry.
const EntryKeyTail = "|lang=en&page=2"

// AppendEntryKey appends the key of entry i, of about 100 bytes.
func AppendEntryKey(dst []byte, i int) []byte { return fmt.Appendf(dst, entryKeyFormat, i) }

// NewEntryKeys draws keys of entries below n; rank says which, nil all of them with the
// same chance. They are at most a million, many more than there are in a core's own caches.
func NewEntryKeys(n int, rank func() int) *Keys {
	if rank == nil {
		r := rand.New(rand.NewPCG(1, 2))
		rank = func() int { return r.IntN(n) }
	}
	count := 1 << 14
	for count < 16*n && count < 1<<20 {
		count *= 2
	}
	k := &Keys{mask: count - 1, size: len(AppendEntryKey(nil, 0))}
	k.bytes = make([]byte, 0, count*k.size)
	for range count {
		k.bytes = AppendEntryKey(k.bytes, rank())
	}
	k.text = string(k.bytes)
	return k
}

// idBytes is the length of a UUID.
const idBytes = 36

// IDsFew is enough keys to look all over a ring, and few enough not to be waited for, since
// a request's key has just been read.
const IDsFew = 1 << 13

// NewIDs returns count keys of 36 bytes, as requests are told apart by. The count is a power
// of two.
func NewIDs(count int) *Keys {
	k := &Keys{mask: count - 1, size: idBytes, bytes: make([]byte, count*idBytes)}
	r := rand.NewChaCha8([32]byte{1})
	for i := range k.bytes {
		k.bytes[i] = "0123456789abcdef"[r.Uint64()&15]
	}
	k.text = string(k.bytes)
	return k
}

// At returns key i; numbers above Mask begin again. It is only to be read.
func (k *Keys) At(i int) []byte {
	i = i & k.mask * k.size
	return k.bytes[i : i+k.size : i+k.size]
}

// TextAt is At as a string.
func (k *Keys) TextAt(i int) string {
	i = i & k.mask * k.size
	return k.text[i : i+k.size]
}

// Mask is the number of keys less one, all of its bits set.
func (k *Keys) Mask() int { return k.mask }

// Size is the length of a key in bytes.
func (k *Keys) Size() int { return k.size }

// Zipf draws numbers below n, of which number i comes in proportion to (i+1)^-s.
// Unlike rand.Zipf it can do s of 1 and less, as the popularity of web pages is.
// What it returns is not safe for concurrent use.
func Zipf(r *rand.Rand, n int, s float64) func() int {
	sums, sum := make([]float64, n), 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -s)
		sums[i] = sum
	}
	return func() int { return min(sort.SearchFloat64s(sums, r.Float64()*sum), n-1) }
}
