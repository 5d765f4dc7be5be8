package kernel

// fma32 returns a*b+c rounded once to float32. On arm64 the compiler makes one FMADD of it, which the test of this function checks.
func fma32(a, b, c float32) float32 { return a*b + c }
