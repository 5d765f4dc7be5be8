package arch

import (
	"math"

	"maas/internal/llm/kernel"
	"maas/internal/llm/mmap"
)

// SessionOptions of NewSession.
type SessionOptions struct {
	Pages   int  // of the key/value cache, PageTokens positions each
	FullKV  bool // keys and values in float32
	MaxRows int  // tokens of the largest batch
	MaxOut  int  // rows of the largest Batch.Out
	Pool    *kernel.Pool
}

// Session computes forward passes: a key/value cache and the scratch memory of one engine. Not safe for concurrent use.
type Session struct {
	m    *Model
	p    *kernel.Pool
	kv   *kernel.KV
	acts kernel.Acts

	x, h, ff, ff2 []float32 // residual [rows][Dim], normed [rows][Dim], [rows][FF] twice
	q, att        []float32 // [rows][Heads*HeadDim]
	k, v          []float32 // [rows][KVHeads*HeadDim]
	proj          []float32 // [rows][Dim], output of attention and feed-forward
	cos, sin      []float32 // [rows][RopeDim/2]
	logits        []float32 // [out][Vocab]
	queries       []kernel.Query
	slots         []slot // where each row's key and value go

	layer *layer // of the pass below
	index int
	owed  bool      // proj is still to be added to x: the next norm does it, row by row
	normW []float32 // weights of the norm that runs

	keyF, queryF, siluF, normF func(lo, hi int) // made once, so that a step allocates nothing
}

type slot struct{ page, slot int }

// NewSession allocates a cache and scratch memory: about Memory(...).KV + Scratch bytes.
func (m *Model) NewSession(o SessionOptions) (*Session, error) {
	c := &m.Config
	if o.Pages < 1 || o.MaxRows < 1 || o.MaxOut < 1 {
		return nil, ErrMemory.With("a session needs at least one page and one row")
	}
	if c.HeadDim > 1024 {
		return nil, ErrUnsupported.With("heads of %d values are not run", c.HeadDim)
	}
	s := &Session{m: m, p: o.Pool, kv: kernel.NewKV(c.kvShape(!o.FullKV), o.Pages)}
	f := func(n int) []float32 { return make([]float32, n) }
	q, kv, r := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim, o.MaxRows
	s.x, s.h, s.proj = f(r*c.Dim), f(r*c.Dim), f(r*c.Dim)
	s.ff, s.ff2 = f(r*c.FF), f(r*c.FF)
	s.q, s.att, s.k, s.v = f(r*q), f(r*q), f(r*kv), f(r*kv)
	s.cos, s.sin = f(r*c.RopeDim/2), f(r*c.RopeDim/2)
	s.logits = f(o.MaxOut * c.Vocab)
	s.queries, s.slots = make([]kernel.Query, r), make([]slot, r)
	s.keyF, s.queryF, s.siluF, s.normF = s.keyRows, s.queryRows, s.siluRows, s.normRows
	return s, nil
}

// Forward computes the batch: it writes the keys and values of all its rows into their pages and sets Batch.Logits for Out. Rows of one sequence must follow one another without a gap in positions.
// It panics with llm.ErrFileChanged if the embedding's file was cut short, and on a batch larger than the session's limits.
func (s *Session) Forward(b *Batch) {
	n := len(b.Tokens)
	s.prepare(b)
	if err := s.embed(b.Tokens); err != nil {
		panic(err)
	}
	s.owed = false
	for i := range s.m.layers {
		s.layer, s.index = &s.m.layers[i], i
		s.keys(n)
		whole := i < len(s.m.layers)-1 || len(b.Out) == n
		if !whole { // what follows in the last layer matters to the wanted rows only
			s.keep(b.Out)
			n = len(b.Out)
		}
		if n > 0 {
			s.attention(n, whole && kernel.SameActs(s.layer.q.Type(), s.layer.v.Type()))
			s.feedForward(n)
		}
	}
	s.head(b)
}

// prepare computes where each row's key and value go, what it sees, and its rotation.
func (s *Session) prepare(b *Batch) {
	half := s.m.Config.RopeDim / 2
	for _, span := range b.Spans {
		for i := range span.Len {
			row, pos := span.Row+i, span.Pos+i
			s.queries[row] = kernel.Query{Table: span.Pages, Pos: pos}
			s.slots[row] = slot{int(span.Pages[pos/PageTokens]), pos % PageTokens}
			s.m.rope.at(pos, s.cos[row*half:(row+1)*half], s.sin[row*half:(row+1)*half])
		}
	}
}

// embed copies the rows of the tokens into x.
func (s *Session) embed(tokens []int32) error {
	d := s.m.Config.Dim
	if s.m.Config.Tied {
		for i, id := range tokens {
			s.m.output.Row(s.x[i*d:(i+1)*d], int(id))
		}
		return nil
	}
	return mmap.Guard(func() error {
		for i, id := range tokens {
			s.m.embed.Row(s.x[i*d:(i+1)*d], int(id))
		}
		return nil
	})
}

// keys sets h to RMS(x) and puts the keys and values of n rows into the cache.
func (s *Session) keys(n int) {
	l := s.layer
	s.norm(l.attnNorm, n)
	s.matmul(s.k, l.k, s.h, n, false)
	s.matmul(s.v, l.v, s.h, n, kernel.SameActs(l.v.Type(), l.k.Type()))
	s.p.For(n, s.grain(n), s.keyF)
}

// keyRows finishes keys and values of rows lo..hi: bias, norm of heads, rotation, cache.
func (s *Session) keyRows(lo, hi int) {
	c, l := &s.m.Config, s.layer
	kn, half := c.KVHeads*c.HeadDim, c.RopeDim/2
	for i := lo; i < hi; i++ {
		k, v := s.k[i*kn:(i+1)*kn], s.v[i*kn:(i+1)*kn]
		if l.kBias != nil {
			kernel.Add(k, l.kBias)
			kernel.Add(v, l.vBias)
		}
		if l.kNorm != nil {
			kernel.RMSNorm(k, k, l.kNorm, c.Eps)
		}
		kernel.Rope(k, c.HeadDim, s.cos[i*half:(i+1)*half], s.sin[i*half:(i+1)*half])
		s.kv.Put(s.index, s.slots[i].page, s.slots[i].slot, k, v)
	}
}

// keep moves the given rows, which rise, to the front of everything that the rest of a layer reads.
func (s *Session) keep(rows []int32) {
	d, half := s.m.Config.Dim, s.m.Config.RopeDim/2
	move := func(x []float32, n, to, from int) { copy(x[to*n:(to+1)*n], x[from*n:(from+1)*n]) }
	for to, row := range rows {
		if from := int(row); from != to {
			move(s.x, d, to, from)
			move(s.h, d, to, from)
			move(s.cos, half, to, from)
			move(s.sin, half, to, from)
			s.queries[to] = s.queries[from]
		}
	}
}

// attention adds Wo*Attn(h) to x. set says that the inputs of the query matrix are those that keys has set.
func (s *Session) attention(n int, set bool) {
	c, l := &s.m.Config, s.layer
	q := c.Heads * c.HeadDim
	s.matmul(s.q, l.q, s.h, n, set)
	s.p.For(n, s.grain(n), s.queryF)
	s.kv.Attend(s.p, s.att[:n*q], s.q[:n*q], s.index, s.queries[:n], kernel.AttendOptions{
		Heads: c.Heads, Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Window: c.Window,
	})
	s.matmul(s.proj, l.o, s.att, n, false)
	if l.oBias != nil {
		kernel.AddBias(s.proj[:n*c.Dim], l.oBias)
	}
	s.owed = true
}

// queryRows finishes queries of rows lo..hi: bias, norm of heads, rotation.
func (s *Session) queryRows(lo, hi int) {
	c, l := &s.m.Config, s.layer
	qn, half := c.Heads*c.HeadDim, c.RopeDim/2
	for i := lo; i < hi; i++ {
		q := s.q[i*qn : (i+1)*qn]
		if l.qBias != nil {
			kernel.Add(q, l.qBias)
		}
		if l.qNorm != nil {
			kernel.RMSNorm(q, q, l.qNorm, c.Eps)
		}
		kernel.Rope(q, c.HeadDim, s.cos[i*half:(i+1)*half], s.sin[i*half:(i+1)*half])
	}
}

// feedForward adds Wd*(silu(Wg*n).(Wu*n)) to x, n = RMS(x).
func (s *Session) feedForward(n int) {
	l := s.layer
	s.norm(l.ffNorm, n)
	s.matmul(s.ff, l.gate, s.h, n, false)
	s.matmul(s.ff2, l.up, s.h, n, kernel.SameActs(l.up.Type(), l.gate.Type()))
	s.p.For(n, s.grain(n), s.siluF)
	s.matmul(s.proj, l.down, s.ff, n, false)
	s.owed = true
}

func (s *Session) siluRows(lo, hi int) {
	f := s.m.Config.FF
	kernel.SiluMul(s.ff[lo*f:hi*f], s.ff[lo*f:hi*f], s.ff2[lo*f:hi*f])
}

// head computes the logits of the wanted rows, which keep has moved to the front.
func (s *Session) head(b *Batch) {
	n := len(b.Out)
	if n == 0 {
		return
	}
	s.norm(s.m.outputNorm, n)
	s.matmul(s.logits, s.m.output, s.h, n, false)
	b.Logits = s.logits[:n*s.m.Config.Vocab]
}

// norm adds what is owed to n rows of x and sets h to their norm.
func (s *Session) norm(w []float32, n int) {
	s.normW = w
	s.p.For(n, s.grain(n), s.normF)
	s.owed = false
}

func (s *Session) normRows(lo, hi int) {
	d := s.m.Config.Dim
	x := s.x[lo*d : hi*d]
	if s.owed {
		kernel.Add(x, s.proj[lo*d:hi*d])
	}
	kernel.RMSNorm(s.h[lo*d:hi*d], x, s.normW, s.m.Config.Eps)
}

// grain is how many rows a worker takes at once: a few rows are not worth waking anybody.
func (s *Session) grain(n int) int {
	if n <= 8 {
		return n
	}
	return max(4, n/(4*s.p.Size()))
}

// matmul sets y to w times the n rows of x. set says that the inputs are already in the form that w wants.
func (s *Session) matmul(y []float32, w *kernel.Weights, x []float32, n int, set bool) {
	if !set {
		s.acts.SetOn(s.p, w.Type(), x, n, w.Cols())
	}
	kernel.MatMul(s.p, y, w.Rows(), w, &s.acts)
}
