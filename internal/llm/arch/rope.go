package arch

import "math"

// rope holds the angular speed of each rotated pair and the magnitude of the rotation.
type rope struct {
	speed []float64 // radians a position, [RopeDim/2]
	scale float64
}

// newRope computes the speeds in float64. factors, if not nil, divide them one by one: GGUF files carry the llama3 stretching as a tensor rope_freqs.
func newRope(c *Config, factors []float32) rope {
	n := c.RopeDim / 2
	r := rope{speed: make([]float64, n), scale: 1}
	s := c.RopeScale
	low, high := 0.0, 0.0
	if s.Kind == "yarn" {
		at := func(beta float64) float64 {
			return float64(c.RopeDim) * math.Log(float64(s.Original)/(2*math.Pi*beta)) / (2 * math.Log(c.RopeBase))
		}
		low, high = max(0, math.Floor(at(s.BetaFast))), min(float64(c.RopeDim-1), math.Ceil(at(s.BetaSlow)))
		r.scale = s.Attn
		if r.scale == 0 {
			r.scale = yarnMagnitude(s.Factor)
		}
	}
	for i := range r.speed {
		f := math.Pow(c.RopeBase, -2*float64(i)/float64(c.RopeDim))
		switch s.Kind {
		case "linear":
			f /= s.Factor
		case "llama3":
			f /= float64(float32(llama3Factor(f, s))) // rounded as a rope_freqs tensor holds it
		case "yarn":
			mix := 1 - min(1, max(0, (float64(i)-low)/max(0.001, high-low)))
			f = f/s.Factor*(1-mix) + f*mix
		}
		if factors != nil {
			f /= float64(factors[i])
		}
		r.speed[i] = f
	}
	return r
}

// yarnMagnitude is by how much YaRN scales cosine and sine (Peng et al., "YaRN", 2023, section 3.4).
func yarnMagnitude(factor float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 1 + 0.1*math.Log(factor)
}

// llama3Factor slows a speed f down: not at all above the high frequency, by the whole factor below the low one, smoothly between.
func llama3Factor(f float64, s RopeScale) float64 {
	wave, l := 2*math.Pi/f, float64(s.Original)
	switch {
	case wave < l/s.High:
		return 1
	case wave > l/s.Low:
		return s.Factor
	}
	smooth := (l/wave - s.Low) / (s.High - s.Low)
	return 1 / ((1-smooth)/s.Factor + smooth)
}

// at writes cosine and sine of one position, each [RopeDim/2], computed in float64 and rounded once.
func (r *rope) at(pos int, cos, sin []float32) {
	for i, f := range r.speed {
		s, c := math.Sincos(float64(pos) * f)
		cos[i], sin[i] = float32(c*r.scale), float32(s*r.scale)
	}
}
