package quant

import (
	"encoding/binary"
	"math"
)

func half(b []byte) float32 { return FromF16(binary.LittleEndian.Uint16(b)) }

func putHalf(b []byte, f float32) { binary.LittleEndian.PutUint16(b, ToF16(f)) }

func decodeQ8_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[34:] {
		d := half(src)
		for j, q := range src[2:34] {
			dst[j] = d * float32(int8(q))
		}
	}
}

// encodeQ8_0: d = amax/127, q = x/d rounded half away from zero, with the full-precision d (ggml's quantize_row_q8_0_ref).
func encodeQ8_0(dst []byte, src []float32) {
	for ; len(src) >= 32; dst, src = dst[34:], src[32:] {
		var amax float32
		for _, x := range src[:32] {
			amax = max(amax, abs(x))
		}
		d := amax / 127
		var id float32
		if d != 0 {
			id = 1 / d
		}
		putHalf(dst, d)
		for j, x := range src[:32] {
			dst[2+j] = byte(int8(math.Round(float64(x * id))))
		}
	}
}

func decodeQ4_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[18:] {
		d := half(src)
		for j, q := range src[2:18] {
			dst[j] = float32(int(q&15)-8) * d
			dst[j+16] = float32(int(q>>4)-8) * d
		}
	}
}

// largest returns the signed value of the largest magnitude, the first on ties.
func largest(x []float32) float32 {
	var amax, m float32
	for _, v := range x {
		if amax < abs(v) {
			amax, m = abs(v), v
		}
	}
	return m
}

// encodeQ4_0: d = m/-8 with m the signed value of the largest magnitude, so that this value is met exactly by q = 0.
func encodeQ4_0(dst []byte, src []float32) {
	for ; len(src) >= 32; dst, src = dst[18:], src[32:] {
		d := largest(src[:32]) / -8
		var id float32
		if d != 0 {
			id = 1 / d
		}
		putHalf(dst, d)
		for j := range 16 {
			lo := min(15, int8(float32(src[j]*id)+8.5))
			hi := min(15, int8(float32(src[j+16]*id)+8.5))
			dst[2+j] = byte(lo) | byte(hi)<<4
		}
	}
}

func decodeQ4_1(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[20:] {
		d, m := half(src), half(src[2:])
		for j, q := range src[4:20] {
			dst[j] = float32(float32(q&15)*d) + m
			dst[j+16] = float32(float32(q>>4)*d) + m
		}
	}
}

func decodeQ5_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[22:] {
		d, h := half(src), binary.LittleEndian.Uint32(src[2:])
		for j, q := range src[6:22] {
			dst[j] = float32(int(uint32(q&15)|h>>j&1<<4)-16) * d
			dst[j+16] = float32(int(uint32(q>>4)|h>>(j+16)&1<<4)-16) * d
		}
	}
}

// encodeQ5_0: as q4_0 with one bit more, d = m/-16.
func encodeQ5_0(dst []byte, src []float32) {
	for ; len(src) >= 32; dst, src = dst[22:], src[32:] {
		d := largest(src[:32]) / -16
		var id float32
		if d != 0 {
			id = 1 / d
		}
		putHalf(dst, d)
		var h uint32
		for j := range 16 {
			lo := uint32(min(31, int8(float32(src[j]*id)+16.5)))
			hi := uint32(min(31, int8(float32(src[j+16]*id)+16.5)))
			dst[6+j] = byte(lo&15 | hi&15<<4)
			h |= lo>>4&1<<j | hi>>4&1<<(j+16)
		}
		binary.LittleEndian.PutUint32(dst[2:], h)
	}
}

func decodeQ5_1(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[24:] {
		d, m, h := half(src), half(src[2:]), binary.LittleEndian.Uint32(src[4:])
		for j, q := range src[8:24] {
			dst[j] = float32(float32(uint32(q&15)|h>>j&1<<4)*d) + m
			dst[j+16] = float32(float32(uint32(q>>4)|h>>(j+16)&1<<4)*d) + m
		}
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
