package kernel

import (
	"slices"
	"sync/atomic"

	"maas/internal/platform/fault"
)

// Level is a set of vector instructions. All levels give equal bits.
type Level uint8

// Levels. AVX2 needs FMA and F16C too; AVX512 is F, BW, VL and DQ.
const (
	Generic Level = iota
	AVX2
	AVX512
	AVX512VNNI
	NEON
)

// ErrLevel says that this machine, or this build, lacks the instructions asked for.
var ErrLevel = fault.New(fault.Invalid, "llm.kernel_level", "this machine does not have the vector instructions asked for").
	WithHint("leave the kernel level unset: the best one is then chosen")

var levelNames = [...]string{"generic", "avx2", "avx512", "avx512vnni", "neon"}

// String returns the name as configuration files have it.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return "unknown"
}

// ParseLevel returns the level of that name. ErrLevel for an unknown name.
func ParseLevel(name string) (Level, error) {
	for i, n := range levelNames {
		if n == name {
			return Level(i), nil
		}
	}
	return Generic, ErrLevel.With("there is no kernel level %q", name)
}

// Detect returns the best level of this machine.
func Detect() Level {
	all := Levels()
	return all[len(all)-1]
}

// current is the one global of the library. It changes speed, never a result.
var current atomic.Uint32

func init() { current.Store(uint32(Detect())) }

// Current returns the level in use: [Detect]'s unless [Use] chose another.
func Current() Level { return Level(current.Load()) }

// Use chooses the level for the whole process. ErrLevel if the machine cannot run it; then nothing changes.
func Use(l Level) error {
	if !slices.Contains(Levels(), l) {
		return ErrLevel.With("kernel level %s is not available here; the best one is %s", l, Detect())
	}
	current.Store(uint32(l))
	return nil
}
