package token

import (
	"math/rand/v2"
	"unicode/utf8"
)

// merger turns a word into ids by joining neighbours, lowest rank first, leftmost on ties.
type merger struct {
	table       mergeTable
	bytes       [256]int32       // the token of each byte, -1 = none
	runes       map[string]int32 // tokens by text, for words that start as runes; nil: words start as bytes
	unk         int32            // for a rune without token and bytes; -1 drops it
	fuse        bool             // neighbouring unknown runes are one token
	fallback    bool             // a rune without token becomes its bytes
	whole       map[string]int32 // words that are a token without merging; nil = none
	wholeIsLine bool             // only words made of newlines are looked up in whole
}

// pair is the outcome of joining two tokens.
type pair struct {
	rank int32 // noRank = they do not join
	id   int32
}

const noRank = 1<<31 - 1

// mergeTable is a hash table from two ids to the outcome of their merge, with open addressing: the inner loop of encoding lives in it. The multiplier is random, so no file can be made to collide.
type mergeTable struct {
	slots []mergeSlot
	shift uint
	mul   uint64
}

type mergeSlot struct {
	key  uint64 // left+1 in the upper half, right+1 in the lower; 0 = free
	rank int32
	id   int32
}

func newMergeTable(n int) mergeTable {
	bits := uint(4)
	for 1<<bits < 2*n {
		bits++
	}
	return mergeTable{slots: make([]mergeSlot, 1<<bits), shift: 64 - bits, mul: rand.Uint64() | 1}
}

func mergeKey(left, right int32) uint64 { return uint64(uint32(left+1))<<32 | uint64(uint32(right+1)) }

// add stores a merge; the first of equal pairs stays. Returns false if it was there.
func (t *mergeTable) add(left, right, rank, id int32) bool {
	k := mergeKey(left, right)
	mask := uint64(len(t.slots) - 1)
	for i := k * t.mul >> t.shift; ; i = (i + 1) & mask {
		switch t.slots[i].key {
		case 0:
			t.slots[i] = mergeSlot{k, rank, id}
			return true
		case k:
			return false
		}
	}
}

func (t *mergeTable) get(left, right int32) pair {
	if left < 0 || right < 0 {
		return pair{noRank, -1}
	}
	k := mergeKey(left, right)
	mask := uint64(len(t.slots) - 1)
	for i := k * t.mul >> t.shift; ; i = (i + 1) & mask {
		s := &t.slots[i&mask]
		if s.key == k {
			return pair{s.rank, s.id}
		}
		if s.key == 0 {
			return pair{noRank, -1}
		}
	}
}

// encode appends the ids of w.
func (m *merger) encode(dst []int32, w string, sc *scratch) []int32 {
	if m.whole != nil && (!m.wholeIsLine || w[0] == '\n') {
		if id, ok := m.whole[w]; ok {
			return append(dst, id)
		}
	}
	ids := m.start(sc.ids[:0], w)
	sc.ids = ids
	switch n := len(ids); {
	case n < 2:
	case n <= len(sc.pairs):
		ids = m.scan(ids, sc.pairs[:n])
	default:
		ids = m.heap(ids, sc)
	}
	for i, id := range ids {
		if id < 0 {
			if id = m.unk; id < 0 || m.fuse && i > 0 && ids[i-1] < 0 {
				continue
			}
		}
		dst = append(dst, id)
	}
	return dst
}

// start gives the ids that merging begins with; -1 where there is no token.
func (m *merger) start(ids []int32, w string) []int32 {
	if m.runes == nil {
		for i := range len(w) {
			ids = append(ids, m.bytes[w[i]])
		}
		return ids
	}
	for i := 0; i < len(w); {
		_, n := utf8.DecodeRuneInString(w[i:])
		if id, ok := m.runes[w[i:i+n]]; ok {
			ids = append(ids, id)
		} else if m.fallback {
			for j := range n {
				ids = append(ids, m.bytes[w[i+j]])
			}
		} else {
			ids = append(ids, -1)
		}
		i += n
	}
	return ids
}

// scan merges a short word: it looks for the best pair each time, which is quickest for the lengths that words have.
func (m *merger) scan(ids []int32, pairs []pair) []int32 {
	n := len(ids)
	for i := range n - 1 {
		pairs[i] = m.table.get(ids[i], ids[i+1])
	}
	for n > 1 {
		best, at := int32(noRank), 0
		for i := range n - 1 {
			if pairs[i].rank < best {
				best, at = pairs[i].rank, i
			}
		}
		if best == noRank {
			break
		}
		ids[at] = pairs[at].id
		copy(ids[at+1:n], ids[at+2:n])
		copy(pairs[at:n-1], pairs[at+1:n-1])
		n--
		if at > 0 {
			pairs[at-1] = m.table.get(ids[at-1], ids[at])
		}
		if at < n-1 {
			pairs[at] = m.table.get(ids[at], ids[at+1])
		}
	}
	return ids[:n]
}

// link is a place in a doubly linked list of symbols.
type link struct{ prev, next int32 }

// candidate is a pair that may be merged; it is stale when the ids at its place have changed.
type candidate struct {
	rank        int32
	at          int32
	left, right int32
	id          int32
}

func (c candidate) before(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.at < d.at
}

// heap merges a long word with a priority queue: n log n whatever the text.
func (m *merger) heap(ids []int32, sc *scratch) []int32 {
	links := sc.links[:0]
	queue := sc.queue[:0]
	n := int32(len(ids))
	for i := range n {
		links = append(links, link{i - 1, i + 1})
	}
	try := func(at int32) {
		if at < 0 || links[at].next >= n {
			return
		}
		left, right := ids[at], ids[links[at].next]
		if p := m.table.get(left, right); p.rank != noRank {
			queue = push(queue, candidate{p.rank, at, left, right, p.id})
		}
	}
	for i := range n - 1 {
		try(i)
	}
	const gone = -2
	for len(queue) > 0 {
		var c candidate
		c, queue = pop(queue)
		next := links[c.at].next
		if ids[c.at] != c.left || next >= n || ids[next] != c.right {
			continue
		}
		ids[c.at] = c.id
		ids[next] = gone
		links[c.at].next = links[next].next
		if after := links[next].next; after < n {
			links[after].prev = c.at
		}
		try(links[c.at].prev)
		try(c.at)
	}
	out := ids[:0]
	for i := int32(0); i < n; i = links[i].next {
		out = append(out, ids[i])
	}
	sc.links, sc.queue = links, queue
	return out
}

type ordered[T any] interface{ before(T) bool }

// push and pop keep a binary heap in a slice, the first in order at index 0. Written out because container/heap costs an allocation for each element.
func push[T ordered[T]](h []T, x T) []T {
	h = append(h, x)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !x.before(h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = x
	return h
}

func pop[T ordered[T]](h []T) (T, []T) {
	first := h[0]
	x := h[len(h)-1]
	h = h[:len(h)-1]
	if len(h) == 0 {
		return first, h
	}
	i := 0
	for {
		kid := 2*i + 1
		if kid >= len(h) {
			break
		}
		if kid+1 < len(h) && h[kid+1].before(h[kid]) {
			kid++
		}
		if !h[kid].before(x) {
			break
		}
		h[i] = h[kid]
		i = kid
	}
	h[i] = x
	return first, h
}
