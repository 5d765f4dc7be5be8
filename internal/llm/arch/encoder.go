package arch

import (
	"math"

	"maas/internal/llm/kernel"
	"maas/internal/llm/mmap"
	"maas/internal/llm/quant"
)

// encoderWeights are those of an encoder that stand outside of its layers.
type encoderWeights struct {
	position, types     quant.Matrix // in the mapped file
	norm, normBias      []float32
	pool, class         *kernel.Weights // the head of a ranker: class(tanh(pool(first row)))
	poolBias, classBias []float32
}

// Sequence is one text, or a pair of texts, for an encoder.
type Sequence struct {
	Tokens []int32
	Types  []uint8 // kind of each token's segment; nil = all 0
}

// EncoderRows is how many tokens a step of an encoder computes at most, where no single text is longer.
const EncoderRows = 2048

// EncoderSequences is how many sequences a step computes at most.
const EncoderSequences = 128

// Encoder computes the rows of whole sequences: every token sees every other one of its sequence. Not safe for concurrent use. Source: Devlin et al. 2018 (arXiv 1810.04805), Liu et al. 2019 (1907.11692).
type Encoder struct {
	m    *Model
	p    *kernel.Pool
	kv   *kernel.KV
	acts kernel.Acts

	x, q, k, v, att, proj []float32 // [rows][Dim]
	ff                    []float32 // [rows][FF]
	row                   []float32 // [Dim]: one embedding
	queries               []kernel.Query
	slots                 []slot
	tables                []int32
	n                     int
	layer                 *layer
	normW, normB          []float32
	addF, actF, kvF       func(lo, hi int) // made once, so that a step allocates nothing
}

// NewEncoder allocates scratch memory for steps of at most rows tokens. ErrUnsupported if the model is no encoder.
func (m *Model) NewEncoder(rows int, p *kernel.Pool) (*Encoder, error) {
	c := &m.Config
	if c.Arch != Bert {
		return nil, ErrUnsupported.With("%s is a decoder: it makes text, not vectors", c.Arch)
	}
	if rows < 1 {
		return nil, ErrMemory.With("an encoder needs at least one row")
	}
	f := func(n int) []float32 { return make([]float32, n) }
	pages := c.encoderPages(rows)
	e := &Encoder{m: m, p: p, kv: kernel.NewKV(c.encoderKV(), pages)}
	e.x, e.q, e.k, e.v, e.att, e.proj = f(rows*c.Dim), f(rows*c.Dim), f(rows*c.Dim), f(rows*c.Dim), f(rows*c.Dim), f(rows*c.Dim)
	e.ff, e.row = f(rows*c.FF), f(c.Dim)
	e.queries, e.slots, e.tables = make([]kernel.Query, rows), make([]slot, rows), make([]int32, pages)
	for i := range e.tables {
		e.tables[i] = int32(i) //nolint:gosec // few
	}
	e.addF, e.actF, e.kvF = e.addRows, e.actRows, e.kvRows
	return e, nil
}

// encoderKV: the keys and values of one layer at a time, in full precision.
func (c *Config) encoderKV() kernel.KVShape {
	return kernel.KVShape{Layers: 1, Heads: c.Heads, HeadDim: c.HeadDim}
}

// encoderPages: each sequence begins a page of its own.
func (c *Config) encoderPages(rows int) int {
	return (rows+PageTokens-1)/PageTokens + min(rows, EncoderSequences)
}

// encoderBytes is what NewEncoder allocates.
func (c *Config) encoderBytes(rows int) int64 {
	return 4*int64(rows)*int64(6*c.Dim+c.FF) + int64(c.encoderPages(rows))*c.encoderKV().PageBytes()
}

// Rows returns how many tokens a step takes.
func (e *Encoder) Rows() int { return len(e.queries) }

// Encode computes the rows of the sequences: at most EncoderSequences, which together have at most Rows tokens and each at least one and at most Config.Ctx. The result holds their rows one after another, [tokens][Dim], and is valid
// until the next call. It panics with llm.ErrFileChanged if the embeddings' file was cut short.
func (e *Encoder) Encode(list []Sequence) []float32 {
	c := &e.m.Config
	if err := e.embed(list); err != nil {
		panic(err)
	}
	kernel.LayerNorm(e.x[:e.n*c.Dim], e.x[:e.n*c.Dim], e.m.enc.norm, e.m.enc.normBias, c.Eps)
	for i := range e.m.layers {
		e.step(&e.m.layers[i])
	}
	return e.x[:e.n*c.Dim]
}

// embed sums the embeddings of token, position and segment into x, and lays out where keys and values go.
func (e *Encoder) embed(list []Sequence) error {
	c, w := &e.m.Config, &e.m.enc
	e.n = 0
	page := 0
	return mmap.Guard(func() error {
		for _, s := range list {
			table := e.tables[page : page+(len(s.Tokens)+PageTokens-1)/PageTokens]
			page += len(table)
			for i, id := range s.Tokens {
				x := e.x[e.n*c.Dim : (e.n+1)*c.Dim]
				e.m.embed.Row(x, int(id))
				w.position.Row(e.row, c.Encoder.First+i)
				kernel.Add(x, e.row)
				if c.Encoder.Types > 0 {
					kind := 0
					if s.Types != nil {
						kind = min(int(s.Types[i]), c.Encoder.Types-1)
					}
					w.types.Row(e.row, kind)
					kernel.Add(x, e.row)
				}
				e.queries[e.n] = kernel.Query{Table: table, Pos: len(s.Tokens) - 1} // all tokens are seen
				e.slots[e.n] = slot{int(table[i/PageTokens]), i % PageTokens}
				e.n++
			}
		}
		return nil
	})
}

// step computes one layer: x = LN(x+Attention(x)), x = LN(x+FF(x)).
func (e *Encoder) step(l *layer) {
	c, n := &e.m.Config, e.n
	e.layer = l
	e.matmul(e.q, l.q, e.x, false)
	e.matmul(e.k, l.k, e.x, kernel.SameActs(l.k.Type(), l.q.Type()))
	e.matmul(e.v, l.v, e.x, kernel.SameActs(l.v.Type(), l.k.Type()))
	e.p.For(n, e.grain(), e.kvF)
	e.kv.Attend(e.p, e.att[:n*c.Dim], e.q[:n*c.Dim], 0, e.queries[:n], kernel.AttendOptions{Heads: c.Heads, Scale: float32(1 / math.Sqrt(float64(c.HeadDim)))})
	e.matmul(e.proj, l.o, e.att, false)
	e.add(l.oBias, l.attnNorm, l.attnNormBias)
	e.matmul(e.ff, l.up, e.x, false)
	e.p.For(n, e.grain(), e.actF)
	e.matmul(e.proj, l.down, e.ff, false)
	e.add(l.downBias, l.ffNorm, l.ffNormBias)
}

// kvRows finishes queries, keys and values of rows lo..hi.
func (e *Encoder) kvRows(lo, hi int) {
	d, l := e.m.Config.Dim, e.layer
	kernel.AddBias(e.q[lo*d:hi*d], l.qBias)
	kernel.AddBias(e.k[lo*d:hi*d], l.kBias)
	kernel.AddBias(e.v[lo*d:hi*d], l.vBias)
	for i := lo; i < hi; i++ {
		e.kv.Put(0, e.slots[i].page, e.slots[i].slot, e.k[i*d:(i+1)*d], e.v[i*d:(i+1)*d])
	}
}

func (e *Encoder) actRows(lo, hi int) {
	f := e.m.Config.FF
	x := e.ff[lo*f : hi*f]
	kernel.AddBias(x, e.layer.upBias)
	switch e.m.Config.Encoder.Act {
	case "relu":
		for i, v := range x {
			x[i] = max(v, 0)
		}
	case "gelu_tanh":
		kernel.GeluTanh(x)
	default:
		kernel.Gelu(x)
	}
}

// add sets x = LN(x+proj+bias).
func (e *Encoder) add(bias, w, b []float32) {
	kernel.AddBias(e.proj[:e.n*e.m.Config.Dim], bias)
	e.normW, e.normB = w, b
	e.p.For(e.n, e.grain(), e.addF)
}

func (e *Encoder) addRows(lo, hi int) {
	d := e.m.Config.Dim
	x := e.x[lo*d : hi*d]
	kernel.Add(x, e.proj[lo*d:hi*d])
	kernel.LayerNorm(x, x, e.normW, e.normB, e.m.Config.Eps)
}

func (e *Encoder) grain() int {
	if e.n <= 8 {
		return e.n
	}
	return max(4, e.n/(4*e.p.Size()))
}

func (e *Encoder) matmul(y []float32, w *kernel.Weights, x []float32, set bool) {
	if !set {
		e.acts.SetOn(e.p, w.Type(), x, e.n, w.Cols())
	}
	kernel.MatMul(e.p, y, w.Rows(), w, &e.acts)
}

// Pool makes one vector of a sequence's rows, [tokens][Dim], as the model wants it, scaled to length 1 (all zeros stay). dst has Config.Dim values.
func (m *Model) Pool(dst, rows []float32) {
	d := m.Config.Dim
	switch m.Config.Encoder.Pooling {
	case PoolCLS, PoolRank:
		copy(dst, rows[:d])
	case PoolLast:
		copy(dst, rows[len(rows)-d:])
	default:
		clear(dst)
		for r := rows; len(r) >= d; r = r[d:] {
			kernel.Add(dst, r[:d])
		}
		kernel.Scale(dst, 1/float32(len(rows)/d))
	}
	Normalize(dst)
}

// Normalize scales a vector to length 1; all zeros stay.
func Normalize(v []float32) {
	sum := 0.0
	for _, f := range v {
		sum += float64(f) * float64(f)
	}
	if sum > 0 {
		kernel.Scale(v, float32(1/math.Sqrt(sum)))
	}
}

// Classes computes the head's raw outputs, [Labels], of a sequence from its first row. ErrUnsupported if the model has no head.
func (m *Model) Classes(dst, first []float32) error {
	w, d := &m.enc, m.Config.Dim
	if w.class == nil {
		return ErrUnsupported.With("the model has no head that scores")
	}
	h := append([]float32(nil), first[:d]...)
	var acts kernel.Acts
	if w.pool != nil {
		out := make([]float32, d)
		acts.Set(w.pool.Type(), h, 1, d)
		kernel.MatMul(nil, out, d, w.pool, &acts)
		kernel.AddBias(out, w.poolBias)
		for i, v := range out {
			out[i] = float32(math.Tanh(float64(v)))
		}
		h = out
	}
	acts.Set(w.class.Type(), h, 1, d)
	kernel.MatMul(nil, dst, w.class.Rows(), w.class, &acts)
	kernel.AddBias(dst[:w.class.Rows()], w.classBias)
	return nil
}
