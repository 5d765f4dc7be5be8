//go:build !amd64

package kernel

func (Level) siluMul(_, _, _ []float32) int                                { return 0 }
func (Level) rmsRow(_, _, _ []float32, _ float32) bool                     { return false }
func (Level) rope(_ []float32, _ int, _, _ []float32) bool                 { return false }
func (Level) add(_, _ []float32) int                                       { return 0 }
func (Level) toF16(_ []uint16, _ []float32) int                            { return 0 }
func (Level) expSum(_ []float32, _ float32) (float32, bool)                { return 0, false }
func (Level) quantize32(_ []int8, _ []int32, _ []float32) bool             { return false }
func (Level) quantize256(_ []int8, _ []int32, _ []float32) bool            { return false }
func (Level) attends(int) bool                                             { return false }
func (*KV) scoresVector(*[PageLen]float32, []float32, int)                 {}
func softPageVector(*[PageLen]float32, float32, float32) (_, _, _ float32) { return 0, 0, 0 }
func (*KV) valuesVector(_, _ []float32, _ int, _ float32)                  {}

func (Level) attends4(int) bool                                                 { return false }
func (*KV) scores4(*[4][PageLen]float32, []float32, int)                        {}
func (*KV) values4([]float32, *[4][PageLen]float32, int, int, int, *[4]float32) {}

func (Level) expWeights([]float64, []float32, float64, float64) (float64, bool) { return 0, false }
func (Level) largest([]float32) (float32, int)                                  { return 0, 0 }
func (Level) index([]float32, float32) int                                      { return 0 }
