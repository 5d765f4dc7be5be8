package arch

import (
	"context"
	"math"

	"maas/internal/llm/kernel"
	"maas/internal/llm/mmap"
	"maas/internal/llm/quant"
)

// LoadOptions of Load.
type LoadOptions struct {
	Pool     *kernel.Pool            // packs with its workers; nil = this goroutine alone
	Progress func(done, total int64) // bytes of the file read; called after each tensor
}

// layer holds the weights of one decoder layer. Biases and head norms are nil where the family has none.
type layer struct {
	attnNorm, ffNorm    []float32
	q, k, v, o          *kernel.Weights
	qBias, kBias, vBias []float32
	oBias               []float32
	qNorm, kNorm        []float32

	attnNormBias, ffNormBias, upBias, downBias []float32 // of encoders
	gate, up, down                             *kernel.Weights
}

// Model is a loaded model: packed weights, read-only, so that sessions may share it.
type Model struct {
	Config Config

	layers     []layer
	outputNorm []float32
	output     *kernel.Weights
	embed      quant.Matrix // in the mapped file; unused when tied
	rope       rope
	bytes      int64

	enc encoderWeights // of an encoder
}

// Bytes returns the memory that the packed weights hold.
func (m *Model) Bytes() int64 { return m.bytes }

// Load packs the weights. ErrTensorNaN for norms, biases and rope factors that are not finite; llm.ErrFileChanged if the file was cut short under the mapping; ctx's error when it ends.
// The source must stay open as long as the model is used.
func (s *Source) Load(ctx context.Context, o LoadOptions) (*Model, error) {
	m := &Model{Config: s.Config, layers: make([]layer, s.Config.Layers)}
	var done, total int64
	for _, t := range s.found {
		total += t.Bytes
	}
	var freqs []float32
	for _, w := range s.Config.wants() {
		t := s.found[w]
		if t == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := mmap.Guard(func() error {
			mat, err := s.matrix(t)
			if err != nil {
				return err
			}
			if w.rows == 0 {
				v, err := vector(mat, t.Name)
				if w.role == roleRopeFreqs {
					freqs = v
				}
				m.setVector(w, s.orderVector(w, v))
				return err
			}
			if w.looked(&s.Config) {
				m.setLookup(w, mat)
				return nil
			}
			_ = touch(mat.Data)
			p, err := kernel.PackOrdered(o.Pool, mat.Type, w.rows, w.cols, mat.Data, s.order(w.role))
			if err != nil {
				return err
			}
			m.bytes += p.Bytes()
			m.setMatrix(w, p)
			s.drop(t)
			return nil
		})
		if err != nil {
			return nil, err
		}
		done += t.Bytes
		if o.Progress != nil {
			o.Progress(done, total)
		}
	}
	if m.Config.Arch != Bert {
		m.rope = newRope(&m.Config, freqs)
	}
	return m, nil
}

// looked reports whether a matrix is read from the file row by row instead of being packed for products.
func (w want) looked(c *Config) bool {
	return w.role == roleEmbed && !c.Tied || w.role == rolePosition || w.role == roleTypes
}

func (m *Model) setLookup(w want, mat quant.Matrix) {
	switch w.role { //nolint:exhaustive // those of looked
	case rolePosition:
		m.enc.position = mat
	case roleTypes:
		m.enc.types = mat
	default:
		m.embed = mat
	}
}

// Load opens path and loads it; Close of the returned source ends the model's life.
func Load(ctx context.Context, path string, o LoadOptions) (*Model, *Source, error) {
	s, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.Load(ctx, o)
	if err != nil {
		_ = s.Close()
		return nil, nil, err
	}
	return m, s, nil
}

// touch reads one byte of each page in this goroutine, which is guarded against a file cut short, before workers read them all.
//
//go:noinline
func touch(b []byte) byte {
	var sum byte
	for i := 0; i < len(b); i += 4096 {
		sum |= b[i]
	}
	return sum
}

// order returns how rows of query and key matrices of GGUF Llama files are put back: the file interleaves the two halves of each rotated head, row h*d+2i+j being row h*d+j*rot/2+i of the model. Other
// families and formats store halves.
func (s *Source) order(r role) func(int) int {
	if s.Format != "gguf" || s.Config.Arch != Llama {
		return nil
	}
	switch r {
	case roleQ, roleK, roleQBias, roleKBias:
	default:
		return nil
	}
	d, rot := s.Config.HeadDim, s.Config.RopeDim
	return func(row int) int {
		h, at := row/d, row%d
		if at >= rot {
			return row
		}
		return h*d + 2*(at%(rot/2)) + at/(rot/2)
	}
}

func (s *Source) orderVector(w want, v []float32) []float32 {
	f := s.order(w.role)
	if f == nil {
		return v
	}
	out := make([]float32, len(v))
	for i := range out {
		out[i] = v[f(i)]
	}
	return out
}

func vector(m quant.Matrix, name string) ([]float32, error) {
	v := make([]float32, m.Cols)
	m.Row(v, 0)
	for i, x := range v {
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			return v, ErrTensorNaN.With("tensor %s is not finite at %d", name, i)
		}
	}
	return v, nil
}

func (m *Model) setVector(w want, v []float32) {
	if w.layer < 0 {
		switch w.role { //nolint:exhaustive // the vectors outside of layers
		case roleOutputNorm:
			m.outputNorm = v
		case roleEmbedNorm:
			m.enc.norm = v
		case roleEmbedNormBias:
			m.enc.normBias = v
		case rolePoolBias:
			m.enc.poolBias = v
		case roleClassBias:
			m.enc.classBias = v
		}
		return
	}
	l := &m.layers[w.layer]
	switch w.role { //nolint:exhaustive // the vectors
	case roleAttnNorm:
		l.attnNorm = v
	case roleFFNorm:
		l.ffNorm = v
	case roleQBias:
		l.qBias = v
	case roleKBias:
		l.kBias = v
	case roleVBias:
		l.vBias = v
	case roleOBias:
		l.oBias = v
	case roleQNorm:
		l.qNorm = v
	case roleKNorm:
		l.kNorm = v
	case roleAttnNormBias:
		l.attnNormBias = v
	case roleFFNormBias:
		l.ffNormBias = v
	case roleUpBias:
		l.upBias = v
	case roleDownBias:
		l.downBias = v
	}
}

func (m *Model) setMatrix(w want, p *kernel.Weights) {
	if w.layer < 0 {
		switch w.role { //nolint:exhaustive // the matrices outside of layers
		case rolePool:
			m.enc.pool = p
		case roleClass:
			m.enc.class = p
		default:
			m.output = p // the embedding of a tied model, or the output matrix
		}
		return
	}
	l := &m.layers[w.layer]
	switch w.role { //nolint:exhaustive // the matrices
	case roleQ:
		l.q = p
	case roleK:
		l.k = p
	case roleV:
		l.v = p
	case roleO:
		l.o = p
	case roleGate:
		l.gate = p
	case roleUp:
		l.up = p
	case roleDown:
		l.down = p
	}
}
