// Package kernel is the arithmetic of the native engine: packed weights, matrix products, attention over a paged key/value cache, norms and activation functions, and the pool of workers they run on.
//
// Two promises hold for everything here. First, equal input gives equal bits, whatever the instruction set ([Level]), the number of workers, the number of tokens in a call or the way a range was split:
// the order of every sum is fixed per output element, and vectors run across output elements, never along a sum. Second, the plain Go code is the definition; assembly is compared with it bit by bit.
//
// The order of sums:
//
//	float weights     sum over k in blocks of 256, each one float32 FMA chain from +0 in rising k; the blocks are added in order
//	32-value blocks   integer dot per block, exact; acc = fma(dw*dx, dot, acc) block by block; formats with a minimum add acc = fma(mw, dx*sum(x), acc)
//	K formats         S = sum of scale*dot and M = sum of min*sum(x) per 256 values, exact in int32; acc = fma(d*dx, S, acc), then acc = fma(-(dmin*dx), M, acc)
//	norms             16 partial sums by k mod 16, float32 FMA, added as a tree 8-4-2-1
//	attention         pages of 32 positions in rising order, online softmax rescaled per page, one (query, head) is one thread's work
//
// exp and tanh are this package's own ([Exp], [Tanh]): the standard library's choose their instructions at run time.
//
// Shapes are the caller's duty (package arch checks them at load): a mismatch is a bug and panics.
package kernel
