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
	last          []float32 // [out][Dim]
	logits        []float32 // [out][Vocab]
	queries       []kernel.Query
	slots         []slot // where each row's key and value go

	layer  *layer // of the pass below
	index  int
	ropeF  func(lo, hi int)
	siluF  func(lo, hi int)
	normIn []float32
	normW  []float32
	normF  func(lo, hi int)
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
	s.last, s.logits = f(o.MaxOut*c.Dim), f(o.MaxOut*c.Vocab)
	s.queries, s.slots = make([]kernel.Query, r), make([]slot, r)
	s.ropeF, s.siluF, s.normF = s.ropeRows, s.siluRows, s.normRows
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
	for i := range s.m.layers {
		s.layer, s.index = &s.m.layers[i], i
		s.attention(n)
		s.feedForward(n)
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

// attention adds Wo*Attn(RMS(x)) to x.
func (s *Session) attention(n int) {
	c, l := &s.m.Config, s.layer
	q := c.Heads * c.HeadDim
	s.norm(s.x, l.attnNorm, n)
	s.matmul(s.q, l.q, s.h, n, false)
	s.matmul(s.k, l.k, s.h, n, kernel.SameActs(l.k.Type(), l.q.Type()))
	s.matmul(s.v, l.v, s.h, n, kernel.SameActs(l.v.Type(), l.k.Type()))
	s.p.For(n, s.grain(n), s.ropeF)
	s.kv.Attend(s.p, s.att[:n*q], s.q[:n*q], s.index, s.queries[:n], kernel.AttendOptions{
		Heads: c.Heads, Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Window: c.Window})
	s.matmul(s.proj, l.o, s.att, n, false)
	if l.oBias != nil {
		kernel.AddBias(s.proj[:n*c.Dim], l.oBias)
	}
	kernel.Add(s.x[:n*c.Dim], s.proj[:n*c.Dim])
}

// ropeRows finishes queries, keys and values of rows lo..hi: bias, norm of heads, rotation; then keys and values go into the cache.
func (s *Session) ropeRows(lo, hi int) {
	c, l := &s.m.Config, s.layer
	qn, kn, half := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim, c.RopeDim/2
	for i := lo; i < hi; i++ {
		q, k, v := s.q[i*qn:(i+1)*qn], s.k[i*kn:(i+1)*kn], s.v[i*kn:(i+1)*kn]
		if l.qBias != nil {
			kernel.Add(q, l.qBias)
			kernel.Add(k, l.kBias)
			kernel.Add(v, l.vBias)
		}
		if l.qNorm != nil {
			kernel.RMSNorm(q, q, l.qNorm, c.Eps)
			kernel.RMSNorm(k, k, l.kNorm, c.Eps)
		}
		cos, sin := s.cos[i*half:(i+1)*half], s.sin[i*half:(i+1)*half]
		kernel.Rope(q, c.HeadDim, cos, sin)
		kernel.Rope(k, c.HeadDim, cos, sin)
		s.kv.Put(s.index, s.slots[i].page, s.slots[i].slot, k, v)
	}
}

// feedForward adds Wd*(silu(Wg*n).(Wu*n)) to x, n = RMS(x).
func (s *Session) feedForward(n int) {
	c, l := &s.m.Config, s.layer
	s.norm(s.x, l.ffNorm, n)
	s.matmul(s.ff, l.gate, s.h, n, false)
	s.matmul(s.ff2, l.up, s.h, n, kernel.SameActs(l.up.Type(), l.gate.Type()))
	s.p.For(n, s.grain(n), s.siluF)
	s.matmul(s.proj, l.down, s.ff, n, false)
	kernel.Add(s.x[:n*c.Dim], s.proj[:n*c.Dim])
}

func (s *Session) siluRows(lo, hi int) {
	f := s.m.Config.FF
	kernel.SiluMul(s.ff[lo*f:hi*f], s.ff[lo*f:hi*f], s.ff2[lo*f:hi*f])
}

// head computes the logits of the wanted rows.
func (s *Session) head(b *Batch) {
	d, v, n := s.m.Config.Dim, s.m.Config.Vocab, len(b.Out)
	if n == 0 {
		return
	}
	for i, row := range b.Out {
		kernel.RMSNorm(s.last[i*d:(i+1)*d], s.x[int(row)*d:(int(row)+1)*d], s.m.outputNorm, s.m.Config.Eps)
	}
	s.matmul(s.logits, s.m.output, s.last, n, false)
	b.Logits = s.logits[:n*v]
}

// norm sets h to the normed rows of in.
func (s *Session) norm(in, w []float32, n int) {
	s.normIn, s.normW = in, w
	s.p.For(n, s.grain(n), s.normF)
}

func (s *Session) normRows(lo, hi int) {
	d := s.m.Config.Dim
	kernel.RMSNorm(s.h[lo*d:hi*d], s.normIn[lo*d:hi*d], s.normW, s.m.Config.Eps)
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
		s.acts.Set(w.Type(), x, n, w.Cols())
	}
	kernel.MatMul(s.p, y, w.Rows(), w, &s.acts)
}
