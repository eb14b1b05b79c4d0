package router

import (
	"bytes"
	"math/bits"
	"slices"
	"strings"
)

const (
	labelBytesMax  = 22 // longer labels continue in a child
	inlineChildren = 16 // nodes with more use a table
	noRank         = ^uint32(0)
)

// node is one step of a radix tree over path prefixes, and one cache line, so
// that a step costs at most one miss. The byte that leads to a node is kept by
// its parent and not part of its label.
type node struct {
	label    [labelBytesMax]byte
	labelLen uint8
	children uint8     // number of them, if inline
	keys     [2]uint64 // first bytes of the children, the rest filled with the last
	child    uint32    // index of the first child; they lie side by side
	leaf     int32     // index into leaves, -1 if no prefix ends here
	decided  uint32    // the leaf's decided rank, see leaf, noRank if it has none
	least    uint32    // lowest rank here or below
	table    int32     // index into tables, -1 if the children are inline
}

// childTable gives the position of a child among its siblings, plus one.
type childTable [256]uint16

// leaf holds the entries whose prefix ends at one node. Leaves of shorter
// prefixes are reached through up.
type leaf struct {
	entries    list
	least      uint32 // lowest rank in entries
	leastChain uint32 // lowest rank here and in all leaves up the chain
	prefixLen  uint32
	up         int32 // leaf of the longest shorter prefix, -1 at the end
	single     bool  // entries has one rank and no branches
	decided    bool  // the lowest rank of the chain is here and needs nothing but host and prefix
}

// tree is where all radix trees of a table live; a tree is named by its root.
type tree struct {
	nodes  []node
	leaves []leaf
	tables []childTable
}

// next returns the index of n's child for byte c, or 0.
func (t *tree) next(n *node, c byte) uint32 {
	if n.table >= 0 {
		if i := t.tables[n.table][c]; i != 0 {
			return n.child + uint32(i) - 1
		}
		return 0
	}
	want := uint64(c) * ones
	if x := n.keys[0] ^ want; n.children > 0 {
		if zero := (x - ones) &^ x & highs; zero != 0 {
			return n.child + uint32(bits.TrailingZeros64(zero)>>3)
		}
	}
	if x := n.keys[1] ^ want; n.children > 8 {
		if zero := (x - ones) &^ x & highs; zero != 0 {
			return n.child + 8 + uint32(bits.TrailingZeros64(zero)>>3)
		}
	}
	return 0
}

// deepest walks from root along path to the last node on the way that has a leaf,
// nil if there is none, and returns how many bytes led there. It stops where
// nothing below can have a rank lower than limit.
func (t *tree) deepest(root uint32, path []byte, limit uint32) (at *node, prefixLen int) {
	n := &t.nodes[root]
	size := len(path)
	for n.least < limit {
		if l := int(n.labelLen); l > 0 {
			if len(path) < l || !bytes.Equal(path[:l], n.label[:l]) {
				return at, prefixLen
			}
			path = path[l:]
		}
		if n.leaf >= 0 {
			at, prefixLen = n, size-len(path)
		}
		if len(path) == 0 {
			return at, prefixLen
		}
		i := t.next(n, path[0])
		if i == 0 {
			return at, prefixLen
		}
		n = &t.nodes[i]
		path = path[1:]
	}
	return at, prefixLen
}

// prefixed is an entry to be put under a prefix.
type prefixed struct {
	prefix string
	rank   uint32
}

// grow builds a tree for items, at least one, and returns its root. newList
// compiles the ranks of one prefix, lowest first. Cold.
func (t *tree) grow(items []prefixed, newList func(ranks []uint32) (l list, decided bool)) uint32 {
	slices.SortFunc(items, func(a, b prefixed) int {
		if c := strings.Compare(a.prefix, b.prefix); c != 0 {
			return c
		}
		return int(int64(a.rank) - int64(b.rank))
	})
	items = slices.Compact(items)
	g := grower{tree: t, newList: newList}
	if len(t.nodes) == 0 {
		t.nodes = append(t.nodes, node{}) // index 0 means none
	}
	root := uint32(len(t.nodes))
	t.nodes = append(t.nodes, node{})
	g.fill(root, items, 0, -1)
	return root
}

type grower struct {
	*tree

	newList func(ranks []uint32) (list, bool)
}

// fill makes the node at index at from items, whose prefixes agree in the first
// skip bytes. up is the nearest leaf above.
func (g *grower) fill(at uint32, items []prefixed, skip int, up int32) {
	n := node{leaf: -1, decided: noRank, table: -1, least: noRank}
	first, last := items[0].prefix[skip:], items[len(items)-1].prefix[skip:]
	n.labelLen = uint8(min(commonLen(first, last), labelBytesMax))
	copy(n.label[:], first[:n.labelLen])
	skip += int(n.labelLen)

	var here []uint32
	for len(items) > 0 && len(items[0].prefix) == skip {
		here = append(here, items[0].rank)
		items = items[1:]
	}
	if len(here) > 0 {
		n.leaf = g.leaf(here, skip, up)
		if g.leaves[n.leaf].decided {
			n.decided = here[0]
		}
		n.least = here[0]
		up = n.leaf
	}
	var runs [][]prefixed
	for len(items) > 0 {
		c := items[0].prefix[skip]
		end := slices.IndexFunc(items, func(p prefixed) bool { return p.prefix[skip] != c })
		if end < 0 {
			end = len(items)
		}
		runs = append(runs, items[:end])
		items = items[end:]
	}
	n.child = uint32(len(g.nodes))
	g.nodes = append(g.nodes, make([]node, len(runs))...)
	g.keys(&n, runs, skip)
	for i, run := range runs {
		g.fill(n.child+uint32(i), run, skip+1, up)
		n.least = min(n.least, g.nodes[n.child+uint32(i)].least)
	}
	g.nodes[at] = n
}

// keys records the first bytes of n's children.
func (g *grower) keys(n *node, runs [][]prefixed, skip int) {
	if len(runs) > inlineChildren {
		n.table = int32(len(g.tables))
		var table childTable
		for i, run := range runs {
			table[run[0].prefix[skip]] = uint16(i + 1)
		}
		g.tables = append(g.tables, table)
		return
	}
	n.children = uint8(len(runs))
	if len(runs) == 0 {
		return
	}
	for i := range inlineChildren {
		// Unused places repeat the last key: the search takes the first that equals.
		c := runs[min(i, len(runs)-1)][0].prefix[skip]
		n.keys[i/8] |= uint64(c) << (8 * (i % 8))
	}
}

func (g *grower) leaf(ranks []uint32, prefixLen int, up int32) int32 {
	entries, decided := g.newList(ranks)
	l := leaf{entries: entries, least: ranks[0], leastChain: ranks[0], prefixLen: uint32(prefixLen), up: up}
	if up >= 0 {
		l.leastChain = min(l.leastChain, g.leaves[up].leastChain)
	}
	l.decided = decided && l.leastChain == ranks[0]
	l.single = len(entries.ranks) == 1 && len(entries.branches) == 0 && !entries.decided
	g.leaves = append(g.leaves, l)
	return int32(len(g.leaves) - 1)
}
