package kernel

import (
	"encoding/binary"
	"math"
	"runtime"

	"maas/internal/llm/quant"
)

// form is how a panel holds its weights. A panel is 16 output rows interleaved: one vector lane is one row. It is a run of blocks along k; sizes are bytes of one block.
type form uint8

const (
	formF32  form = iota // one k: 16 float32
	formF16              // one k: 16 half
	formBF16             // one k: 16 bfloat16
	formQ8               // 32 k: 16 half d; 8 groups of 16 rows x 4 bytes, stored as q+128. q8_0 and, widened without loss, q5_0
	formQ4               // 32 k: 16 half d; 4 x 64 bytes, low nibble group v, high nibble group v+4. q4_0
	formQ8M              // 32 k: 16 half d; 16 half m; 8 groups of bytes q. q4_1 and q5_1, widened
	formQ4K              // 256 k: d, dmin; 8x16 scales; 4x16 pairs of mins; 4 x 8 x 64 bytes, low nibble sub-block 2j, high nibble 2j+1
	formQ5K              // 256 k: d, dmin; scales; mins; 8 x 8 groups of bytes q
	formQ6K              // 256 k: d; 16x16 int8 scales; 16 sub-blocks of 192 bytes: groups 0,1 and 2,3 as nibbles, then their high bit pairs
)

type layout struct {
	values, bytes int // of a block
	acts          actKind
}

var layouts = [...]layout{
	formF32: {1, 64, actF32}, formF16: {1, 32, actF32}, formBF16: {1, 32, actF32},
	formQ8: {32, 544, act32}, formQ4: {32, 288, act32}, formQ8M: {32, 576, act32},
	formQ4K: {256, 2368, act256}, formQ5K: {256, 4416, act256}, formQ6K: {256, 3360, act256},
}

// formOf returns the panel form of a file format; false for one that is not run.
func formOf(t quant.Type) (form, bool) {
	switch t {
	case quant.F32:
		return formF32, true
	case quant.F16:
		return formF16, true
	case quant.BF16:
		return formBF16, true
	case quant.Q8_0, quant.Q5_0:
		return formQ8, true
	case quant.Q4_0:
		return formQ4, true
	case quant.Q4_1, quant.Q5_1:
		return formQ8M, true
	case quant.Q4_K:
		return formQ4K, true
	case quant.Q5_K:
		return formQ5K, true
	case quant.Q6_K:
		return formQ6K, true
	}
	return 0, false
}

// Weights is a matrix [rows, cols] packed for MatMul. It holds a copy: the file may be unmapped. Read-only after Pack, so any number of goroutines may use it.
type Weights struct {
	t          quant.Type
	form       form
	rows, cols int
	stride     int // bytes of a panel
	data       []byte
}

// Rows returns the number of outputs.
func (w *Weights) Rows() int { return w.rows }

// Cols returns the number of inputs.
func (w *Weights) Cols() int { return w.cols }

// Type returns the format that the matrix was packed from.
func (w *Weights) Type() quant.Type { return w.t }

// Bytes returns the memory held.
func (w *Weights) Bytes() int64 { return int64(len(w.data)) }

// PackedBytes returns what a matrix takes when packed; ErrTypeUnsupported or ErrSize of package quant if it cannot be.
func PackedBytes(t quant.Type, rows, cols int) (int64, error) {
	f, ok := formOf(t)
	if !ok {
		return 0, quant.ErrTypeUnsupported.With("%s is not run by the native engine", t)
	}
	if rows < 1 || cols < 1 || cols%layouts[f].values != 0 || t.RowBytes(cols) < 0 {
		return 0, quant.ErrSize.With("a matrix of %d x %d cannot be %s", rows, cols, t)
	}
	return int64((rows+15)/16) * int64(cols/layouts[f].values*layouts[f].bytes), nil
}

// Pack interleaves a matrix in file layout: raw holds rows rows of t.RowBytes(cols) bytes. Errors as of PackedBytes, and ErrSize if raw is not that long. p may be nil.
func Pack(p *Pool, t quant.Type, rows, cols int, raw []byte) (*Weights, error) {
	return PackOrdered(p, t, rows, cols, raw, nil)
}

// PackOrdered is Pack with the rows taken in another order: output row i is row order(i) of raw. A nil order keeps them.
func PackOrdered(p *Pool, t quant.Type, rows, cols int, raw []byte, order func(i int) int) (*Weights, error) {
	size, err := PackedBytes(t, rows, cols)
	if err != nil {
		return nil, err
	}
	rowBytes := t.RowBytes(cols)
	if len(raw) != rows*rowBytes {
		return nil, quant.ErrSize.With("a matrix of %d x %d in %s takes %d bytes, not %d", rows, cols, t, rows*rowBytes, len(raw))
	}
	f, _ := formOf(t)
	w := &Weights{t: t, form: f, rows: rows, cols: cols, stride: cols / layouts[f].values * layouts[f].bytes}
	w.data = allocate[byte](w, int(size))
	zero := make([]byte, rowBytes) // the rows that pad the last panel
	p.For((rows+15)/16, 4, func(lo, hi int) {
		var src [16][]byte
		for panel := lo; panel < hi; panel++ {
			for r := range src {
				i := panel*16 + r
				if i >= rows {
					src[r] = zero
					continue
				}
				if order != nil {
					i = order(i)
				}
				src[r] = raw[i*rowBytes : (i+1)*rowBytes]
			}
			packPanel(t, w.data[panel*w.stride:(panel+1)*w.stride], &src)
		}
	})
	return w, nil
}

func packPanel(t quant.Type, dst []byte, src *[16][]byte) {
	switch t {
	case quant.F32:
		packFloat(dst, src, 4)
	case quant.F16, quant.BF16:
		packFloat(dst, src, 2)
	case quant.Q8_0:
		packBytes(dst, src, 34, 544, unpackQ8)
	case quant.Q5_0:
		packBytes(dst, src, 22, 544, unpackQ50)
	case quant.Q4_1:
		packBytes(dst, src, 20, 576, unpackQ41)
	case quant.Q5_1:
		packBytes(dst, src, 24, 576, unpackQ51)
	case quant.Q4_0:
		packQ4(dst, src)
	case quant.Q4_K:
		packQ4K(dst, src)
	case quant.Q5_K:
		packQ5K(dst, src)
	case quant.Q6_K:
		packQ6K(dst, src)
	}
}

func packFloat(dst []byte, src *[16][]byte, size int) {
	n := len(src[0]) / size
	for r, row := range src {
		if size == 4 {
			for k := range n {
				binary.LittleEndian.PutUint32(dst[k*64+r*4:], binary.LittleEndian.Uint32(row[k*4:]))
			}
			continue
		}
		for k := range n {
			binary.LittleEndian.PutUint16(dst[k*32+r*2:], binary.LittleEndian.Uint16(row[k*2:]))
		}
	}
}

// word reads and putWord writes four weights of a row at once.
func word(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

func putWord(b []byte, w uint32) { binary.LittleEndian.PutUint32(b, w) }

// packBytes packs 32-value blocks that become one byte a value. unpack writes the 32 bytes as 8 words and returns how many leading bytes of the block (d, or d and m) travel as they are.
func packBytes(dst []byte, src *[16][]byte, in, out int, unpack func(q *[8]uint32, block []byte) int) {
	var q [8]uint32
	for r, row := range src {
		for b := 0; b*in < len(row); b++ {
			block, to := row[b*in:(b+1)*in], dst[b*out:(b+1)*out]
			head := unpack(&q, block)
			for h := 0; h < head; h += 2 {
				to[16*h+2*r], to[16*h+2*r+1] = block[h], block[h+1]
			}
			to = to[16*head+4*r:]
			for g, w := range q {
				putWord(to[64*g:], w)
			}
		}
	}
}

func unpackQ8(q *[8]uint32, block []byte) int {
	for g := range q {
		q[g] = word(block[2+4*g:]) ^ 0x80808080
	}
	return 2
}

// spread puts the low four bits of b into the lowest bits of four bytes.
func spread(b uint32) uint32 { return b & 15 * 0x00204081 & 0x01010101 }

// unpackFive joins nibbles with their fifth bits: byte j of nibbles holds values j and j+16.
func unpackFive(q *[8]uint32, nibbles []byte, high uint32) {
	for g := range 4 {
		w := word(nibbles[4*g:])
		q[g] = w&0x0f0f0f0f | spread(high>>(4*g))<<4
		q[g+4] = w>>4&0x0f0f0f0f | spread(high>>(16+4*g))<<4
	}
}

func unpackQ50(q *[8]uint32, block []byte) int {
	unpackFive(q, block[6:22], word(block[2:]))
	for g := range q {
		q[g] += 0x70707070 // 128 - 16; no byte carries
	}
	return 2
}

func unpackQ41(q *[8]uint32, block []byte) int {
	unpackFive(q, block[4:20], 0)
	return 4
}

func unpackQ51(q *[8]uint32, block []byte) int {
	unpackFive(q, block[8:24], word(block[4:]))
	return 4
}

func packQ4(dst []byte, src *[16][]byte) {
	for r, row := range src {
		for b := 0; b*18 < len(row); b++ {
			block, to := row[b*18:(b+1)*18], dst[b*288:(b+1)*288]
			to[2*r], to[2*r+1] = block[0], block[1]
			// In the file byte j holds values j and j+16, in the panel as well: group v is values 4v.., group v+4 is values 16+4v..
			for v := range 4 {
				putWord(to[32+64*v+4*r:], word(block[2+4*v:]))
			}
		}
	}
}

// scalesK unpacks the 6-bit scales and mins of q4_K and q5_K.
func scalesK(b []byte) (sc, m [8]byte) {
	for j := range 4 {
		sc[j], m[j] = b[j]&63, b[j+4]&63
		sc[j+4] = b[j+8]&15 | b[j]>>6<<4
		m[j+4] = b[j+8]>>4 | b[j+4]>>6<<4
	}
	return sc, m
}

// headK writes d, dmin, scales and mins of row r, which are the first 320 bytes of a q4_K or q5_K block.
func headK(to, block []byte, r int) {
	copy(to[2*r:], block[0:2])
	copy(to[32+2*r:], block[2:4])
	sc, m := scalesK(block[4:16])
	for j := range 8 {
		to[64+16*j+r], to[192+j/2*32+2*r+j&1] = sc[j], m[j]
	}
}

func packQ4K(dst []byte, src *[16][]byte) {
	for r, row := range src {
		for b := 0; b*144 < len(row); b++ {
			block, to := row[b*144:(b+1)*144], dst[b*2368:(b+1)*2368]
			headK(to, block, r)
			// 32 bytes of the file are sub-block 2j (low) and 2j+1 (high), as in the panel.
			for v := range 32 {
				putWord(to[320+64*v+4*r:], word(block[16+4*v:]))
			}
		}
	}
}

func packQ5K(dst []byte, src *[16][]byte) {
	for r, row := range src {
		for b := 0; b*176 < len(row); b++ {
			block, to := row[b*176:(b+1)*176], dst[b*4416:(b+1)*4416]
			headK(to, block, r)
			high, low := block[16:48], block[48:176]
			for k := 0; k < 256; k += 4 {
				j, i := k/32, k%32
				q := word(low[j/2*32+i:])>>(j&1*4)&0x0f0f0f0f | word(high[i:])>>j&0x01010101<<4
				putWord(to[320+k/4*64+4*r:], q)
			}
		}
	}
}

func packQ6K(dst []byte, src *[16][]byte) {
	for r, row := range src {
		for b := 0; b*210 < len(row); b++ {
			block, to := row[b*210:(b+1)*210], dst[b*3360:(b+1)*3360]
			copy(to[2*r:], block[208:210])
			for j := range 16 {
				to[32+16*j+r] = block[192+j]
			}
			for j := range 16 {
				var low, high [4]uint32
				for g := range 4 {
					half, i := j/8, j%8*16+4*g
					low[g] = word(block[half*64+i%64:]) >> (i / 64 * 4) & 0x0f0f0f0f
					high[g] = word(block[128+half*32+i%32:]) >> (i / 32 * 2) & 0x03030303
				}
				at := to[288+192*j+4*r:]
				putWord(at, low[0]|low[1]<<4)
				putWord(at[64:], low[2]|low[3]<<4)
				putWord(at[128:], high[0]|high[1]<<2|high[2]<<4|high[3]<<6)
			}
		}
	}
}

// Row sets dst[:cols] to row r, dequantized: the same bits as package quant gives for the row in the file.
func (w *Weights) Row(dst []float32, r int) {
	panel, lane := w.data[r/16*w.stride:(r/16+1)*w.stride], r%16
	dst = dst[:w.cols]
	switch w.form {
	case formF32:
		for k := range dst {
			dst[k] = math.Float32frombits(binary.LittleEndian.Uint32(panel[k*64+lane*4:]))
		}
	case formF16:
		for k := range dst {
			dst[k] = half(panel, k*32+lane*2)
		}
	case formBF16:
		for k := range dst {
			dst[k] = quant.FromBF16(binary.LittleEndian.Uint16(panel[k*32+lane*2:]))
		}
	default:
		l := layouts[w.form]
		for b := 0; b*l.values < w.cols; b++ {
			rowBlock(w.form, dst[b*l.values:(b+1)*l.values], panel[b*l.bytes:(b+1)*l.bytes], lane)
		}
	}
	runtime.KeepAlive(w)
}

// half reads the half-precision number at byte i of b.
func half(b []byte, i int) float32 { return quant.FromF16(binary.LittleEndian.Uint16(b[i:])) }

// rowBlock dequantizes one lane of one block, with the operations in the order of package quant.
func rowBlock(f form, dst []float32, b []byte, lane int) {
	d := half(b, 2*lane)
	var q [256]int32
	quants(f, &q, b, lane)
	switch f {
	case formQ8, formQ4:
		for k := range dst {
			dst[k] = d * float32(q[k])
		}
	case formQ8M:
		m := half(b, 32+2*lane)
		for k := range dst {
			dst[k] = float32(float32(q[k])*d) + m
		}
	case formQ4K, formQ5K:
		dmin := half(b, 32+2*lane)
		for k := range dst {
			s, m := d*float32(b[64+k/32*16+lane]), dmin*float32(b[192+k/64*32+2*lane+k/32&1])
			dst[k] = float32(s*float32(q[k])) - m
		}
	case formQ6K:
		for k := range dst {
			s := d * float32(int8(b[32+k/16*16+lane]))
			dst[k] = s * float32(q[k])
		}
	default:
		panic("kernel: a float panel has no blocks")
	}
}

// quants sets q to the integers of one lane of one block: signed for q8, q4 and q6_K, as stored for the formats with a minimum.
func quants(f form, q *[256]int32, b []byte, lane int) {
	switch f {
	case formQ8:
		for k := range 32 {
			q[k] = int32(b[32+k/4*64+4*lane+k%4]) - 128
		}
	case formQ8M:
		for k := range 32 {
			q[k] = int32(b[64+k/4*64+4*lane+k%4])
		}
	case formQ4:
		for k := range 32 {
			q[k] = int32(b[32+k%16/4*64+4*lane+k%4]>>(k/16*4)&15) - 8
		}
	case formQ4K:
		for k := range 256 {
			q[k] = int32(b[320+k/64*512+k%32/4*64+4*lane+k%4] >> (k / 32 & 1 * 4) & 15)
		}
	case formQ5K:
		for k := range 256 {
			q[k] = int32(b[320+k/4*64+4*lane+k%4])
		}
	case formQ6K:
		for k := range 256 {
			at, g := b[288+k/16*192+4*lane+k%4:], k/4%4
			q[k] = int32(at[g/2*64]>>(g&1*4)&15|at[128]>>(2*g)&3<<4) - 32
		}
	default:
		panic("kernel: a float panel has no blocks")
	}
}
