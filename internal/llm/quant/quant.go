package quant

// Dequantize sets dst to the values of src. len(src) is t.RowBytes(len(dst)); else ErrSize. A type that is not run gives ErrTypeUnsupported. No allocation.
func Dequantize(t Type, dst []float32, src []byte) error {
	if err := check(t, len(dst), len(src)); err != nil {
		return err
	}
	f, ok := decoders[t]
	if !ok {
		return ErrTypeUnsupported.With("%s is not run by the native engine", t)
	}
	f(dst, src)
	return nil
}

// Quantize sets dst to the blocks of src. len(dst) is t.RowBytes(len(src)); else ErrSize. A type that is not written gives ErrTypeUnsupported. No allocation.
// Values that are not finite give blocks that are not finite: check before.
func Quantize(t Type, dst []byte, src []float32) error {
	if err := check(t, len(src), len(dst)); err != nil {
		return err
	}
	f, ok := encoders[t]
	if !ok {
		return ErrTypeUnsupported.With("%s is read but not written here", t)
	}
	f(dst, src)
	return nil
}

func check(t Type, values, bytes int) error {
	i, ok := infos[t]
	if !ok {
		return ErrTypeUnsupported.With("type %d is not a known number format", uint32(t))
	}
	if n := t.RowBytes(values); n < 0 || n != bytes {
		return ErrSize.With("%d values of %s (blocks of %d values, %d bytes) do not fill %d bytes", values, t, i.Block, i.Bytes, bytes)
	}
	return nil
}

var decoders = map[Type]func([]float32, []byte){
	F32: decodeF32, F16: decodeF16, BF16: decodeBF16,
	Q8_0: decodeQ8_0, Q4_0: decodeQ4_0, Q4_1: decodeQ4_1, Q5_0: decodeQ5_0, Q5_1: decodeQ5_1,
	Q4_K: decodeQ4_K, Q5_K: decodeQ5_K, Q6_K: decodeQ6_K,
}

var encoders = map[Type]func([]byte, []float32){
	F32: encodeF32, F16: encodeF16, BF16: encodeBF16,
	Q8_0: encodeQ8_0, Q4_0: encodeQ4_0, Q5_0: encodeQ5_0, Q4_K: encodeQ4_K, Q6_K: encodeQ6_K,
}
