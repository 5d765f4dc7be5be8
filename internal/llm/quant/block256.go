package quant

import "math"

// scaleMin returns the 6-bit scale and minimum of sub-block j of 8 from the 12 bytes that q4_K and q5_K pack them into: the low six bits of bytes 0..3 and 4..7 are those of
// sub-blocks 0..3, the four low bits of the others lie in bytes 8..11 and their two high bits on top of bytes 0..7.
func scaleMin(p []byte, j int) (sc, m byte) {
	if j < 4 {
		return p[j] & 63, p[j+4] & 63
	}
	return p[j+4]&15 | p[j-4]>>6<<4, p[j+4]>>4 | p[j]>>6<<4
}

func putScaleMin(p []byte, j int, sc, m byte) {
	if j < 4 {
		p[j], p[j+4] = sc, m
		return
	}
	p[j+4] = sc&15 | m<<4
	p[j-4] |= sc >> 4 << 6
	p[j] |= m >> 4 << 6
}

func decodeQ4_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[144:] {
		d, dmin, sc, q := half(src), half(src[2:]), src[4:16], src[16:144]
		for j := 0; j < 8; j += 2 {
			s0, m0 := scaleMin(sc, j)
			s1, m1 := scaleMin(sc, j+1)
			d0, o0, d1, o1 := d*float32(s0), dmin*float32(m0), d*float32(s1), dmin*float32(m1)
			for l, b := range q[j*16 : j*16+32] {
				dst[j*32+l] = float32(d0*float32(b&15)) - o0
				dst[j*32+32+l] = float32(d1*float32(b>>4)) - o1
			}
		}
	}
}

func decodeQ5_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[176:] {
		d, dmin, sc, h, q := half(src), half(src[2:]), src[4:16], src[16:48], src[48:176]
		for j := 0; j < 8; j += 2 {
			s0, m0 := scaleMin(sc, j)
			s1, m1 := scaleMin(sc, j+1)
			d0, o0, d1, o1 := d*float32(s0), dmin*float32(m0), d*float32(s1), dmin*float32(m1)
			for l, b := range q[j*16 : j*16+32] {
				dst[j*32+l] = float32(d0*float32(b&15|h[l]>>j&1<<4)) - o0
				dst[j*32+32+l] = float32(d1*float32(b>>4|h[l]>>(j+1)&1<<4)) - o1
			}
		}
	}
}

func decodeQ6_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[210:] {
		d := half(src[208:])
		for n := range 2 {
			y, lo, hi, sc := dst[n*128:n*128+128], src[n*64:n*64+64], src[128+n*32:128+n*32+32], src[192+n*8:192+n*8+8]
			for l := range 32 {
				g := l / 16
				y[l] = d * float32(int8(sc[g])) * float32(int(lo[l]&15|hi[l]&3<<4)-32)
				y[l+32] = d * float32(int8(sc[g+2])) * float32(int(lo[l+32]&15|hi[l]>>2&3<<4)-32)
				y[l+64] = d * float32(int8(sc[g+4])) * float32(int(lo[l]>>4|hi[l]>>4&3<<4)-32)
				y[l+96] = d * float32(int8(sc[g+6])) * float32(int(lo[l+32]>>4|hi[l]>>6<<4)-32)
			}
		}
	}
}

// round returns x rounded half to even, for |x| < 2^22: adding 1.5*2^23 leaves the integer in the low mantissa bits.
func round(x float32) int {
	return int(math.Float32bits(x+12582912)&0x7fffff) - 0x400000
}

// fitRange finds scale s >= 0 and offset o >= 0 so that s*q-o, q in 0..top, is near x in the least squares weighted by w, and the codes q that go with them. It tries
// iscale = (top-1+0.1*i)/(max-min) for i = 0..20, solves for scale and minimum with the codes that each gives, and keeps the least error; the best minimum so far is the one that later tries start from.
// The minimum never rises above zero.
func fitRange(x, w *[32]float32, top int) (scale, offset float32, kept [32]float32) {
	lo, hi := x[0], x[0]
	sumW := w[0]
	sumX := sumW * x[0]
	for i := 1; i < 32; i++ {
		lo, hi = min(lo, x[i]), max(hi, x[i])
		sumW += w[i]
		sumX += float32(w[i] * x[i])
	}
	lo = min(lo, 0)
	if hi == lo {
		return 0, -lo, kept
	}
	var q [32]float32
	codes := func(iscale float32) {
		for i, v := range x {
			q[i] = float32(max(0, min(top, round(iscale*(v-lo)))))
		}
	}
	deviation := func(s, m float32) (sum float32) {
		for i, v := range x {
			e := float32(s*q[i]) + m - v
			sum += float32(w[i] * float32(e*e))
		}
		return sum
	}
	iscale := float32(top) / (hi - lo)
	scale = 1 / iscale
	codes(iscale)
	kept = q
	best := deviation(scale, lo)
	for try := range 21 {
		codes((-1 + float32(float32(0.1)*float32(try)) + float32(top)) / (hi - lo))
		var sumQ, sumQ2, sumXQ float32
		for i, v := range x {
			wq := w[i] * q[i]
			sumQ += wq
			sumQ2 += float32(wq * q[i])
			sumXQ += float32(wq * v)
		}
		det := float32(sumW*sumQ2) - float32(sumQ*sumQ)
		if det <= 0 {
			continue
		}
		s := (float32(sumW*sumXQ) - float32(sumX*sumQ)) / det
		m := (float32(sumQ2*sumX) - float32(sumQ*sumXQ)) / det
		if m > 0 {
			s, m = sumXQ/sumQ2, 0
		}
		if e := deviation(s, m); e < best {
			best, scale, lo, kept = e, s, m, q
		}
	}
	return scale, -lo, kept
}

// encodeQ4_K fits each 32 values alone, rounds the eight scales and minima to six bits of the largest, and chooses the codes again with what was stored.
func encodeQ4_K(dst []byte, src []float32) {
	for ; len(src) >= 256; dst, src = dst[144:], src[256:] {
		var scales, offsets [8]float32
		var fitted [8][32]float32
		var topScale, topOffset float32
		for j := range 8 {
			x := (*[32]float32)(src[j*32:])
			var w [32]float32
			var sum float32
			for _, v := range x {
				sum += float32(v * v)
			}
			rms := float32(math.Sqrt(float64(sum / 32)))
			for l, v := range x {
				w[l] = rms + abs(v)
			}
			scales[j], offsets[j], fitted[j] = fitRange(x, &w, 15)
			topScale, topOffset = max(topScale, scales[j]), max(topOffset, offsets[j])
		}
		clear(dst[:144])
		putHalf(dst, topScale/63)
		putHalf(dst[2:], topOffset/63)
		var is, io float32
		if topScale > 0 {
			is = 63 / topScale
		}
		if topOffset > 0 {
			io = 63 / topOffset
		}
		for j := range 8 {
			putScaleMin(dst[4:16], j, byte(min(63, round(is*scales[j]))), byte(min(63, round(io*offsets[j]))))
		}
		codesQ4_K(dst, src, &fitted)
	}
}

// codesQ4_K writes the nibbles for the scales that already stand in the block. Where the stored scale is zero any code will do: the fitted ones stay.
func codesQ4_K(dst []byte, src []float32, fitted *[8][32]float32) {
	d, dmin := half(dst), half(dst[2:])
	for j := range 8 {
		sc, m := scaleMin(dst[4:16], j)
		s, o := d*float32(sc), dmin*float32(m)
		q := dst[16+j/2*32:]
		for l, v := range src[j*32 : j*32+32] {
			code := byte(fitted[j][l])
			if s != 0 {
				code = byte(max(0, min(15, roundFar((v+o)/s))))
			}
			q[l] |= code << (j % 2 * 4)
		}
	}
}

// roundFar is round for values that may be far out of range: a stored scale can be much smaller than the fitted one.
func roundFar(x float32) int { return round(max(-1e6, min(1e6, x))) }

// fitSigned finds a scale so that scale*q, q in -top..top-1, is near x with weights x^2. It starts at -top/m, m the signed value of the largest magnitude, and tries
// -(top+0.1*i)/m for i = -9..9. The scale may be negative. iscale is the trial that gave it, for the codes.
func fitSigned(x []float32, top int) (scale, iscale float32) {
	m := largest(x)
	if abs(m) < tiny {
		return 0, 0
	}
	sums := func(iscale float32) (xq, q2 float32) {
		for _, v := range x {
			q := float32(max(-top, min(top-1, round(iscale*v))))
			w := v * v
			xq += float32(float32(w*v) * q)
			q2 += float32(float32(w*q) * q)
		}
		return xq, q2
	}
	iscale = float32(-top) / m
	xq, q2 := sums(iscale)
	if q2 != 0 {
		scale = xq / q2
	}
	best := scale * xq
	for try := -9; try <= 9; try++ {
		if try == 0 {
			continue
		}
		is := -(float32(top) + float32(float32(0.1)*float32(try))) / m
		xq, q2 = sums(is)
		if q2 > 0 && xq*xq > best*q2 {
			scale, iscale = xq/q2, is
			best = scale * xq
		}
	}
	return scale, iscale
}

// tiny is the magnitude below which a group counts as zero.
const tiny = 1e-15

// encodeQ6_K fits each 16 values alone, rounds the sixteen scales to int8 of the largest, and chooses the codes again with what was stored.
func encodeQ6_K(dst []byte, src []float32) {
	for ; len(src) >= 256; dst, src = dst[210:], src[256:] {
		clear(dst[:210])
		var scales, trials [16]float32
		for j := range scales {
			scales[j], trials[j] = fitSigned(src[j*16:j*16+16], 32)
		}
		top := largest(scales[:])
		if abs(top) < tiny {
			continue
		}
		iscale := -128 / top
		putHalf(dst[208:], 1/iscale)
		d := half(dst[208:])
		var q [256]byte // code + 32
		for j := range scales {
			sc := int8(min(127, round(iscale*scales[j])))
			dst[192+j] = byte(sc)
			s := d * float32(sc)
			for l, v := range src[j*16 : j*16+16] {
				code := round(trials[j] * v) // where the stored scale is zero any code will do: the fitted one stays
				switch {
				case s != 0:
					code = roundFar(v / s)
				case trials[j] == 0:
					code = -32
				}
				q[j*16+l] = byte(max(-32, min(31, code)) + 32)
			}
		}
		packQ6_K(dst, &q)
	}
}

func packQ6_K(dst []byte, q *[256]byte) {
	for n := range 2 {
		q, lo, hi := q[n*128:n*128+128], dst[n*64:], dst[128+n*32:]
		for l := range 32 {
			a, b, c, d := q[l], q[l+32], q[l+64], q[l+96]
			lo[l] = a&15 | c<<4
			lo[l+32] = b&15 | d<<4
			hi[l] = a>>4 | b>>4<<2 | c>>4<<4 | d>>4<<6
		}
	}
}
