package run

import "math/bits"

// philox is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): noise that depends on key and counter alone, so that a sequence draws the same numbers
// whatever the scheduler did before.
func philox(key [2]uint32, c [4]uint32) [4]uint32 {
	const m0, m1, w0, w1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
	for range 10 {
		h0, l0 := bits.Mul32(m0, c[0])
		h1, l1 := bits.Mul32(m1, c[2])
		c = [4]uint32{h1 ^ c[1] ^ key[0], l1, h0 ^ c[3] ^ key[1], l0}
		key[0] += w0
		key[1] += w1
	}
	return c
}

// uniform returns a number in [0, 1) with 53 random bits for one position of one choice of a request.
func uniform(seed uint64, choice, pos int) float64 {
	r := philox([2]uint32{uint32(seed), uint32(seed >> 32)}, [4]uint32{uint32(pos), uint32(choice), 0, 0})
	return float64((uint64(r[0])<<32|uint64(r[1]))>>11) / (1 << 53)
}
