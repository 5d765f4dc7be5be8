package kernel

import (
	"math"
	"runtime"
	"unsafe"

	"maas/internal/llm/quant"
)

// PageLen is the number of positions of a key/value page.
const PageLen = 32

// KVShape says what a page holds.
type KVShape struct {
	Layers, Heads, HeadDim int  // Heads counts key/value heads; HeadDim <= 1024
	Half                   bool // half precision, else float32
}

// PageBytes returns the memory of a page over all layers.
func (s KVShape) PageBytes() int64 {
	size := int64(4)
	if s.Half {
		size = 2
	}
	return size * int64(s.Layers) * int64(s.Heads) * int64(s.HeadDim) * 2 * PageLen
}

// KV is an arena of key/value pages. It does not know whose a page is: the caller numbers the positions of a sequence through a table of pages, position i being slot i%PageLen of table[i/PageLen].
//
// Of each layer and head a page holds the keys as [HeadDim][PageLen], so that one vector is one value of many positions, and the values as [PageLen][HeadDim].
type KV struct {
	shape KVShape
	pages int
	page  int // elements of a page
	half  []uint16
	full  []float32
}

// NewKV makes an arena of pages zeroed pages.
func NewKV(s KVShape, pages int) *KV {
	c := &KV{shape: s, pages: pages, page: s.Layers * s.Heads * s.HeadDim * 2 * PageLen}
	if s.Half {
		c.half = allocate[uint16](c, pages*c.page)
	} else {
		c.full = allocate[float32](c, pages*c.page)
	}
	return c
}

// Shape returns the shape.
func (c *KV) Shape() KVShape { return c.shape }

// Pages returns the number of pages.
func (c *KV) Pages() int { return c.pages }

// at returns the first element of the keys of a head in a page; the values follow after HeadDim*PageLen elements.
func (c *KV) at(page, layer, head int) int {
	return page*c.page + (layer*c.shape.Heads+head)*c.shape.HeadDim*2*PageLen
}

// Put writes the key and the value, each [Heads*HeadDim], of one position: slot 0..PageLen-1 of a page. Different positions may be written at the same time.
func (c *KV) Put(layer, page, slot int, k, v []float32) {
	n := c.shape.HeadDim
	var short [256]uint16
	for h := range c.shape.Heads {
		at := c.at(page, layer, h)
		vat := at + n*PageLen + slot*n
		if c.shape.Half {
			for lo := 0; lo < n; lo += len(short) {
				part := short[:min(len(short), n-lo)]
				ToF16(part, k[h*n+lo:h*n+lo+len(part)])
				for i, x := range part {
					c.half[at+(lo+i)*PageLen+slot] = x
				}
			}
			ToF16(c.half[vat:vat+n], v[h*n:h*n+n])
			continue
		}
		for i, x := range k[h*n : h*n+n] {
			c.full[at+i*PageLen+slot] = x
		}
		copy(c.full[vat:vat+n], v[h*n:h*n+n])
	}
	runtime.KeepAlive(c)
}

// Copy makes page dst equal to page src in all layers.
func (c *KV) Copy(dst, src int) {
	if c.shape.Half {
		copy(c.half[dst*c.page:(dst+1)*c.page], c.half[src*c.page:(src+1)*c.page])
	} else {
		copy(c.full[dst*c.page:(dst+1)*c.page], c.full[src*c.page:(src+1)*c.page])
	}
	runtime.KeepAlive(c)
}

// Query is one token that looks back: it sees positions max(0, Pos-Window+1)..Pos of the sequence whose pages are Table. Pages wholly before the window are not read.
type Query struct {
	Table []int32
	Pos   int
}

// AttendOptions are the same for all queries of a call.
type AttendOptions struct {
	Heads   int     // query heads, a multiple of the key/value heads: head i reads key/value head i/(Heads/KVHeads)
	Scale   float32 // of the scores, 1/sqrt(HeadDim) as a rule
	SoftCap float32 // scores become cap*tanh(score/cap); 0 = not
	Window  int     // positions a query sees, itself included; 0 = all
}

// attend is one Attend in progress.
type attend struct {
	c       *KV
	out, q  []float32
	layer   int
	queries []Query
	o       AttendOptions
	level   Level
}

// Attend sets out to the attention of each query and head: out and q are [len(queries)][Heads*HeadDim]; the keys and values of every position seen, the own one included, have been Put.
// No allocation. p may be nil.
func (c *KV) Attend(p *Pool, out, q []float32, layer int, queries []Query, o AttendOptions) {
	c.attendAt(p, Current(), out, q, layer, queries, o)
}

func (c *KV) attendAt(p *Pool, level Level, out, q []float32, layer int, queries []Query, o AttendOptions) {
	n := len(queries) * o.Heads * c.shape.HeadDim
	if len(out) < n || len(q) < n || o.Heads%c.shape.Heads != 0 {
		panic("kernel: shapes of an attention do not fit")
	}
	t := attend{c, out, q, layer, queries, o, level}
	pairs := len(queries) * o.Heads
	var work int
	for i := range queries {
		work += (queries[i].Pos + 1) * o.Heads * c.shape.HeadDim
	}
	if p.Size() == 1 || work < inlineBytes {
		t.run(0, pairs)
		runtime.KeepAlive(c)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attend = t
	grain := max(pairs/(8*p.workers), 1)
	if grain > 2 || o.Heads >= 4*c.shape.Heads {
		grain = (grain + 3) &^ 3 // whole tiles of four
	}
	p.share(&p.attend, pairs, grain)
	p.attend = attend{}
	runtime.KeepAlive(c)
}

// run computes lo..hi of the pairs of a query and a head. Their order is key/value head, query, query head of that group: neighbours look at the same keys.
func (t *attend) run(lo, hi int) {
	group := t.o.Heads / t.c.shape.Heads
	block := len(t.queries) * group // pairs of one key/value head
	for lo < hi {
		kv, pair := lo/block, lo%block
		table := unsafe.SliceData(t.queries[pair/group].Table)
		end := min(pair+hi-lo, block)
		same := pair/group + 1
		for same*group < end && unsafe.SliceData(t.queries[same].Table) == table {
			same++
		}
		end = min(end, same*group)
		t.sequence(kv, pair, end)
		lo += end - pair
	}
}

// sequence computes the pairs lo..hi of one key/value head, all of one sequence: four at a time where that has assembly.
func (t *attend) sequence(kv, lo, hi int) {
	dim, group := t.c.shape.HeadDim, t.o.Heads/t.c.shape.Heads
	at := func(pair int) (row, slot int) {
		row = pair / group
		return row, (row*t.o.Heads + kv*group + pair%group) * dim
	}
	if t.level.attends4(dim) {
		for ; lo+4 <= hi; lo += 4 {
			var four quad
			for i := range four.slot {
				four.row[i], four.slot[i] = at(lo + i)
			}
			t.attend4(kv, &four)
		}
	}
	for ; lo < hi; lo++ {
		row, slot := at(lo)
		out, q := t.out[slot:slot+dim], t.q[slot:slot+dim]
		if t.level.attends(dim) {
			t.c.attendVector(out, q, t.layer, kv, &t.queries[row], &t.o)
		} else {
			t.c.attendOne(out, q, t.layer, kv, &t.queries[row], &t.o)
		}
	}
}

// attendOne is the definition of the attention of one query head.
func (c *KV) attendOne(out, q []float32, layer, head int, query *Query, o *AttendOptions) {
	n := c.shape.HeadDim
	first := 0
	if o.Window > 0 {
		first = max(0, query.Pos-o.Window+1)
	}
	clear(out)
	m, sum := float32(math.Inf(-1)), float32(0)
	var s [PageLen]float32
	for j := first / PageLen; j <= query.Pos/PageLen; j++ {
		lo, hi := max(0, first-j*PageLen), min(PageLen, query.Pos-j*PageLen+1)
		at := c.at(int(query.Table[j]), layer, head)
		c.scores(&s, q, at)
		top := m
		for i := lo; i < hi; i++ {
			s[i] *= o.Scale
			if o.SoftCap != 0 {
				s[i] = o.SoftCap * Tanh(s[i]/o.SoftCap)
			}
			if s[i] > top {
				top = s[i]
			}
		}
		if top > m {
			fade := Exp(m - top)
			sum *= fade
			Scale(out, fade)
			m = top
		}
		var l [16]float32
		for i := range s {
			if i < lo || i >= hi {
				s[i] = 0
				continue
			}
			s[i] = Exp(s[i] - m)
			l[i&15] += s[i]
		}
		sum += tree(&l)
		c.values(out, &s, lo, hi, at+n*PageLen)
	}
	Scale(out, 1/sum)
}

// scores sets s[i] to the product of q and the key of slot i, one FMA chain in rising index.
func (c *KV) scores(s *[PageLen]float32, q []float32, at int) {
	*s = [PageLen]float32{}
	for k, x := range q {
		if c.shape.Half {
			for i, h := range c.half[at+k*PageLen : at+k*PageLen+PageLen] {
				s[i] = fma32(quant.FromF16(h), x, s[i])
			}
			continue
		}
		for i, y := range c.full[at+k*PageLen : at+k*PageLen+PageLen] {
			s[i] = fma32(y, x, s[i])
		}
	}
}

// values adds s[i] times the value of slot i, for slots lo..hi in rising order.
func (c *KV) values(out []float32, s *[PageLen]float32, lo, hi, at int) {
	n := len(out)
	for i := lo; i < hi; i++ {
		if c.shape.Half {
			for k, h := range c.half[at+i*n : at+i*n+n] {
				out[k] = fma32(s[i], quant.FromF16(h), out[k])
			}
			continue
		}
		for k, y := range c.full[at+i*n : at+i*n+n] {
			out[k] = fma32(s[i], y, out[k])
		}
	}
}
