package kernel

import "math"

// look is the state of one query head between pages: the largest score so far and the sum of the weights.
type look struct {
	m, sum float32
	first  int // position it sees first
	pos    int // and last
}

func newLook(query *Query, o *AttendOptions) look {
	l := look{m: float32(math.Inf(-1)), pos: query.Pos}
	if o.Window > 0 {
		l.first = max(0, query.Pos-o.Window+1)
	}
	return l
}

// slots returns the range of page j that is seen; empty outside of its pages.
func (l *look) slots(j int) (lo, hi int) {
	return max(0, l.first-j*PageLen), min(PageLen, l.pos-j*PageLen+1)
}

// weigh turns the products s with the keys of a page into weights of its slots lo..hi, and returns what all earlier ones are to be multiplied with.
func (l *look) weigh(s *[PageLen]float32, lo, hi int, o *AttendOptions) (fade float32) {
	inf := float32(math.Inf(-1))
	for i := range lo {
		s[i] = inf
	}
	for i := hi; i < PageLen; i++ {
		s[i] = inf
	}
	scale := o.Scale
	if o.SoftCap != 0 {
		for i := lo; i < hi; i++ {
			s[i] = o.SoftCap * Tanh(float32(s[i]*scale)/o.SoftCap)
		}
		scale = 1
	}
	top, fade, part := softPageVector(s, scale, l.m)
	l.m, l.sum = top, float32(l.sum*fade)+part
	return fade
}

// attendVector is attendOne with vector instructions: the same steps, page by page.
func (c *KV) attendVector(out, q []float32, layer, head int, query *Query, o *AttendOptions) {
	l := newLook(query, o)
	clear(out)
	var s [PageLen]float32
	for j := l.first / PageLen; j <= l.pos/PageLen; j++ {
		lo, hi := l.slots(j)
		at := c.at(int(query.Table[j]), layer, head)
		c.scoresVector(&s, q, at)
		fade := l.weigh(&s, lo, hi, o)
		c.valuesVector(out, s[lo:hi], at+len(out)*(PageLen+lo), fade)
	}
	Scale(out, 1/l.sum)
}

// maxDim4 is the largest head of attend4: its scratch memory is on the stack.
const maxDim4 = 256

// quad names four query heads that look at the same keys: their rows and where they begin in q and out.
type quad struct{ row, slot [4]int }

// attend4 is attendOne for four at once. Each keeps its own order of operations: what they share is reading keys and values.
func (t *attend) attend4(kv int, f *quad) {
	dim := t.c.shape.HeadDim
	var q, out [4 * maxDim4]float32
	var looks [4]look
	first, last := math.MaxInt, -1
	var table []int32 // of the one that sees furthest
	for i := range looks {
		for k, v := range t.q[f.slot[i] : f.slot[i]+dim] {
			q[4*k+i] = v
		}
		looks[i] = newLook(&t.queries[f.row[i]], &t.o)
		first = min(first, looks[i].first/PageLen)
		if looks[i].pos/PageLen > last {
			last, table = looks[i].pos/PageLen, t.queries[f.row[i]].Table
		}
	}
	var s [4][PageLen]float32
	for j := first; j <= last; j++ {
		at := t.c.at(int(table[j]), t.layer, kv)
		t.c.scores4(&s, q[:4*dim], at)
		t.page4(j, at+dim*PageLen, &looks, &s, &out)
	}
	for i := range looks {
		o := t.out[f.slot[i] : f.slot[i]+dim]
		copy(o, out[i*dim:])
		Scale(o, 1/looks[i].sum)
	}
}

// page4 adds the values of page j, which begin at at, to out: the slots that all four see together, the rest one by one.
func (t *attend) page4(j, at int, looks *[4]look, s *[4][PageLen]float32, out *[4 * maxDim4]float32) {
	dim := t.c.shape.HeadDim
	var fade [4]float32
	var lo, hi [4]int
	begin, end := 0, PageLen
	for i := range looks {
		lo[i], hi[i] = looks[i].slots(j)
		begin, end = max(begin, lo[i]), min(end, hi[i])
	}
	shared := end > begin && lo == [4]int{begin, begin, begin, begin}
	for i := range looks {
		if lo[i] < hi[i] {
			fade[i] = looks[i].weigh(&s[i], lo[i], hi[i], &t.o)
		}
	}
	if shared {
		t.c.values4(out[:4*dim], s, begin, end, at, &fade)
	}
	for i := range looks {
		if shared {
			lo[i], fade[i] = end, 1
		}
		if lo[i] < hi[i] {
			t.c.valuesVector(out[i*dim:(i+1)*dim], s[i][lo[i]:hi[i]], at+dim*lo[i], fade[i])
		}
	}
}
