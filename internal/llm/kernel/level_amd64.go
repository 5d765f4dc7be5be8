package kernel

import "golang.org/x/sys/cpu"

// Levels lists what this machine can run, slowest first.
func Levels() []Level {
	all := []Level{Generic}
	x := &cpu.X86
	if !x.HasAVX2 || !x.HasFMA || !hasF16C() {
		return all
	}
	all = append(all, AVX2)
	if !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512VL || !x.HasAVX512DQ {
		return all
	}
	all = append(all, AVX512)
	if !x.HasAVX512VNNI {
		return all
	}
	return append(all, AVX512VNNI)
}

// hasF16C is true: every processor with AVX2 (Intel Haswell, AMD Excavator and later) converts half precision in hardware, and the flag is not in x/sys/cpu.
func hasF16C() bool { return true }
