package kernel

//go:generate sh -c "cd gen && go run . -set avx512 -pkg kernel -out ../tile_avx512_amd64.s -stubs ../tile_avx512_amd64.go"
//go:generate sh -c "cd gen && go run . -set avx2 -pkg kernel -out ../tile_avx2_amd64.s -stubs ../tile_avx2_amd64.go"
//go:generate sh -c "cd gen && go run . -set element -pkg kernel -out ../element_amd64.s -stubs ../element_stub_amd64.go"
//go:generate sh -c "cd gen && go run . -set attend -pkg kernel -out ../attend_amd64.s -stubs ../attend_stub_amd64.go"

var tiles512 = [...][]tile{
	formF32:  {f32T512x1, f32T512x2, f32T512x4, f32T512x8},
	formF16:  {f16T512x1, f16T512x2, f16T512x4, f16T512x8},
	formBF16: {bf16T512x1, bf16T512x2, bf16T512x4, bf16T512x8},
	formQ8:   {q8VNNIx1, q8VNNIx2, q8VNNIx4, q8VNNIx8},
	formQ8M:  {q8MVNNIx1, q8MVNNIx2, q8MVNNIx4, q8MVNNIx8},
	formQ4:   {q4VNNIx1, q4VNNIx2, q4VNNIx4, q4VNNIx8},
	formQ4K:  {q4KVNNIx1, q4KVNNIx2, q4KVNNIx4, q4KVNNIx8},
	formQ5K:  {q5KVNNIx1, q5KVNNIx2, q5KVNNIx4, q5KVNNIx8},
	formQ6K:  {q6KVNNIx1, q6KVNNIx2, q6KVNNIx4, q6KVNNIx8},
}

var tiles256 = [...][]tile{
	formF32:  {f32T256x1, f32T256x2, f32T256x4},
	formF16:  {f16T256x1, f16T256x2, f16T256x4},
	formBF16: {bf16T256x1, bf16T256x2, bf16T256x4},
	formQ8:   {q8AVX2x1, q8AVX2x2, q8AVX2x4},
	formQ8M:  {q8MAVX2x1, q8MAVX2x2, q8MAVX2x4},
	formQ4:   {q4AVX2x1, q4AVX2x2, q4AVX2x4},
	formQ4K:  {q4KAVX2x1, q4KAVX2x2, q4KAVX2x4},
	formQ5K:  {q5KAVX2x1, q5KAVX2x2, q5KAVX2x4},
	formQ6K:  {q6KAVX2x1, q6KAVX2x2, q6KAVX2x4},
}

// tilesOf returns the kernels for 1, 2, 4 ... rows of inputs; none at the generic level.
func tilesOf(l Level, f form) []tile {
	switch {
	case l == AVX512VNNI, l == AVX512 && layouts[f].acts == actF32:
		return tiles512[f]
	case l == AVX2, l == AVX512:
		return tiles256[f]
	}
	return nil
}
