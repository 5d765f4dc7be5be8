package run

import (
	"hash/maphash"
	"slices"

	"maas/internal/llm/arch"
)

const pageTokens = arch.PageTokens

// node is one full page of the prefix tree: the keys and values of pageTokens positions that follow the parent's. A node is in one of three states: used by sequences (refs > 0, and then so are its ancestors), kept
// with children, or a leaf that may be evicted (on the lru list).
type node struct {
	parent   *node // nil for a root
	children map[uint64]*node
	key      uint64
	ids      [pageTokens]int32
	page     int32
	refs     int
	salt     string // roots only

	prev, next *node // lru list, nil when not on it
}

// pool owns all pages of the cache. Each page is free, held by one sequence as a tail, or a node of the prefix tree. Not safe for concurrent use: the engine's loop owns it.
type pool struct {
	free  []int32
	roots map[string]*node
	seed  maphash.Seed
	lru   node // sentinel: lru.next is evicted first
	nodes int  // in the tree, roots not counted
	idle  int  // nodes without references
	total int
}

func newPool(pages int) *pool {
	p := &pool{roots: map[string]*node{}, seed: maphash.MakeSeed(), total: pages}
	p.lru.prev, p.lru.next = &p.lru, &p.lru
	for i := pages - 1; i >= 0; i-- {
		p.free = append(p.free, int32(i))
	}
	return p
}

// available is how many pages take can give.
func (p *pool) available() int { return len(p.free) + p.idle }

// take returns an unused page, evicting the least recently used leaf of the tree if none is free. ok is false when every page is in use.
func (p *pool) take() (page int32, ok bool) {
	if n := len(p.free); n > 0 {
		page, p.free = p.free[n-1], p.free[:n-1]
		return page, true
	}
	n := p.lru.next
	if n == &p.lru {
		return 0, false
	}
	p.remove(n)
	return n.page, true
}

// give returns a page that is no node.
func (p *pool) give(page int32) { p.free = append(p.free, page) }

// remove takes an idle leaf out of the tree.
func (p *pool) remove(n *node) {
	p.unlink(n)
	p.nodes--
	p.idle--
	up := n.parent
	delete(up.children, n.key)
	n.parent = nil
	if len(up.children) > 0 {
		return
	}
	if up.parent == nil {
		if up.refs == 0 {
			delete(p.roots, up.salt)
		}
	} else if up.refs == 0 {
		p.link(up, &p.lru) // it was used no later than its child: next to go
	}
}

// link puts n behind at.
func (p *pool) link(n, at *node) {
	n.prev, n.next = at, at.next
	at.next.prev = n
	at.next = n
}

func (p *pool) unlink(n *node) {
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
}

// root returns the root for a salt with one reference.
func (p *pool) root(salt string) *node {
	r := p.roots[salt]
	if r == nil {
		r = &node{salt: salt, children: map[uint64]*node{}}
		p.roots[salt] = r
	}
	r.refs++
	return r
}

// child finds the page that continues n with ids and references it; nil if there is none. Ids are compared, so that equal hashes never serve a foreign text.
func (p *pool) child(n *node, ids []int32) *node {
	c := n.children[p.hash(ids)]
	if c == nil || !slices.Equal(c.ids[:], ids) {
		return nil
	}
	if c.refs == 0 {
		p.idle--
		if c.next != nil {
			p.unlink(c)
		}
	}
	c.refs++
	return c
}

// add makes a full page the child of n, referenced once. If the tree has it already, that node is referenced and returned, and the page goes back to the free ones. If another text with the same hash is there, add
// returns nil and the page stays the caller's.
func (p *pool) add(n *node, ids []int32, page int32) *node {
	key := p.hash(ids)
	if c := n.children[key]; c != nil {
		if c = p.child(n, ids); c != nil {
			p.give(page)
		}
		return c
	}
	c := &node{parent: n, key: key, page: page, refs: 1}
	copy(c.ids[:], ids)
	if n.children == nil {
		n.children = map[uint64]*node{}
	}
	n.children[key] = c
	p.nodes++
	return c
}

// release drops one reference of n, which must be dropped before its parent's.
func (p *pool) release(n *node) {
	n.refs--
	if n.refs > 0 {
		return
	}
	if n.parent == nil {
		if len(n.children) == 0 {
			delete(p.roots, n.salt)
		}
		return
	}
	p.idle++
	if len(n.children) == 0 {
		p.link(n, p.lru.prev)
	}
}

func (p *pool) hash(ids []int32) uint64 {
	var h maphash.Hash
	h.SetSeed(p.seed)
	var b [4]byte
	for _, id := range ids {
		b[0], b[1], b[2], b[3] = byte(id), byte(id>>8), byte(id>>16), byte(id>>24)
		_, _ = h.Write(b[:])
	}
	return h.Sum64()
}

// check returns false if the books do not add up: a page lost or counted twice. held are the tail pages of living sequences.
func (p *pool) check(held int) bool {
	idle, nodes := 0, 0
	seenPage := make(map[int32]bool, p.total)
	ok := true
	mark := func(page int32) {
		ok = ok && !seenPage[page]
		seenPage[page] = true
	}
	for _, page := range p.free {
		mark(page)
	}
	var walk func(n *node)
	walk = func(n *node) {
		for _, c := range n.children {
			nodes++
			mark(c.page)
			if c.refs == 0 {
				idle++
				ok = ok && (c.next != nil) == (len(c.children) == 0)
			} else {
				ok = ok && c.next == nil && n.refs > 0
			}
			walk(c)
		}
	}
	for _, r := range p.roots {
		walk(r)
	}
	return ok && idle == p.idle && nodes == p.nodes && len(p.free)+nodes+held == p.total
}
