package run

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func noise(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func randomLogits(r *rand.Rand, n int, spread float64) []float32 {
	l := make([]float32, n)
	for i := range l {
		l[i] = float32(r.NormFloat64() * spread)
	}
	return l
}

// The vectors of the authors' Random123 distribution, kat_vectors, philox4x32 with 10 rounds.
func TestPhiloxKnownAnswers(t *testing.T) {
	t.Parallel()
	require.Equal(t, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, philox([2]uint32{}, [4]uint32{}))
	ones := uint32(0xffffffff)
	require.Equal(t, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}, philox([2]uint32{ones, ones}, [4]uint32{ones, ones, ones, ones}))
	require.Equal(t, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}, philox([2]uint32{0xa4093822, 0x299f31d0}, [4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}))
}

func TestExp(t *testing.T) {
	t.Parallel()
	for x := 0.0; x > -690; x -= 0.0137 {
		require.InEpsilon(t, math.Exp(x), exp64(x), 1e-11, x)
	}
	require.InDelta(t, 1, exp64(0), 0)
	require.Zero(t, exp64(-800))
	require.Zero(t, exp64(math.Inf(-1)))
	require.Zero(t, exp64(math.NaN()))
}

// probabilities is the textbook form of the order temperature, top_k, top_p, min_p.
func probabilities(logits []float32, r *Request) map[int32]float64 {
	type tok struct {
		id int32
		p  float64
	}
	var all []tok
	for id, x := range logits {
		all = append(all, tok{int32(id), float64(x) / r.Temperature})
	}
	slices.SortStableFunc(all, func(a, b tok) int { return cmp.Compare(b.p, a.p) })
	if r.TopK > 0 {
		all = all[:min(r.TopK, len(all))]
	}
	top, sum := all[0].p, 0.0
	for i := range all {
		all[i].p = math.Exp(all[i].p - top)
		sum += all[i].p
	}
	if r.TopP > 0 && r.TopP < 1 {
		mass := 0.0
		for i := range all {
			if mass += all[i].p; mass >= r.TopP*sum {
				all = all[:i+1]
				break
			}
		}
	}
	out, left := map[int32]float64{}, 0.0
	for _, a := range all {
		if a.p >= r.MinP*all[0].p {
			out[a.id] = a.p
			left += a.p
		}
	}
	for id := range out {
		out[id] /= left
	}
	return out
}

func TestDrawsFollowTheDistribution(t *testing.T) {
	t.Parallel()
	rnd := noise(3)
	for _, r := range []Request{
		{Temperature: 1}, {Temperature: 0.7, TopK: 12}, {Temperature: 1.3, TopP: 0.8}, {Temperature: 1, MinP: 0.1}, {Temperature: 0.9, TopK: 40, TopP: 0.9, MinP: 0.05}, {Temperature: 2, TopP: 0.3}, {Temperature: 1, TopK: 1},
	} {
		logits := randomLogits(rnd, 200, 2)
		want := probabilities(logits, &r)
		s, sc := newSampler(&r, 42, 0, nil), &scratch{}
		const n = 20_000
		got := map[int32]int{}
		for pos := range n {
			got[s.next(sc, slices.Clone(logits), pos, 0, nil)]++
		}
		for id, k := range got {
			p, ok := want[id]
			require.True(t, ok, "token %d is outside of the cut of %+v", id, r)
			require.InDelta(t, p, float64(k)/n, 5*math.Sqrt(p*(1-p)/n)+1e-9, "token %d", id)
		}
		for id, p := range want {
			require.True(t, got[id] > 0 || p < 20.0/n, "token %d with %g never came", id, p)
		}
	}
}

func TestBorderIsTheLastOfTheSortedPrefix(t *testing.T) {
	t.Parallel()
	rnd := noise(4)
	sc := &scratch{}
	for range 1000 {
		n := 1 + rnd.IntN(60)
		w, sorted := make([]float64, n), make([]candidate, n)
		sum := 0.0
		for i := range w {
			w[i] = exp64(-float64(rnd.IntN(12)) / 3) // with ties
			sorted[i] = candidate{int32(i), w[i]}
			sum += w[i]
		}
		mass := rnd.Float64() * sum
		slices.SortFunc(sorted, byRank)
		acc, k := 0.0, 0
		for k < n && acc < mass {
			acc += sorted[k].x
			k++
		}
		if got := sc.border(w, mass); got != sorted[max(k, 1)-1] { // sums are taken in another order: at a border one rounding may decide
			require.InDelta(t, mass, acc, 1e-9)
		}
	}
}

func TestGreedyTakesTheLowestIDOnTies(t *testing.T) {
	t.Parallel()
	s := newSampler(&Request{}, 1, 0, nil)
	require.EqualValues(t, 1, s.next(&scratch{}, []float32{0, 3, 3, 2}, 0, 0, nil))
	nan := float32(math.NaN())
	require.EqualValues(t, 2, s.next(&scratch{}, []float32{nan, 0, 3}, 0, 0, nil))
}

func TestPenaltiesAndBias(t *testing.T) {
	t.Parallel()
	r := Request{Prompt: []int32{0, 0}, RepetitionPenalty: 2, FrequencyPenalty: 0.5, PresencePenalty: 0.25, LogitBias: map[int32]float32{3: -100, 4: 7}}
	s := newSampler(&r, 1, 0, nil)
	s.accept(1)
	s.accept(1)
	l := []float32{4, -4, 1, 100, 0}
	s.penalise(l, 2)
	require.Equal(t, []float32{2, -8 - 1 - 0.25, 1, float32(math.Inf(-1)), 7}, l)
}

func TestEndTokensAreBannedUntilMinTokens(t *testing.T) {
	t.Parallel()
	r := Request{MinTokens: 2, StopTokens: []int32{1}}
	s := newSampler(&r, 1, 0, []int32{2})
	for made, want := range []int32{0, 0, 2} {
		require.Equal(t, want, s.next(&scratch{}, []float32{1, 2, 3}, made, made, nil))
	}
}

func TestLogprobsAreOfTheRawDistribution(t *testing.T) {
	t.Parallel()
	logits := randomLogits(noise(5), 50, 3)
	r := Request{Logprobs: true, TopLogprobs: 50, LogitBias: map[int32]float32{7: 100}}
	var lp TokenLogprob
	raw := slices.Clone(logits)
	require.EqualValues(t, 7, newSampler(&r, 1, 0, nil).next(&scratch{}, logits, 0, 0, &lp))
	sum := 0.0
	for _, a := range lp.Top {
		sum += math.Exp(float64(a.Logprob))
	}
	require.InDelta(t, 1, sum, 1e-5)
	require.True(t, slices.IsSortedFunc(lp.Top, func(a, b TokenLogprob) int { return cmp.Compare(b.Logprob, a.Logprob) }))
	at := slices.IndexFunc(lp.Top, func(a TokenLogprob) bool { return a.ID == 7 })
	require.InDelta(t, lp.Top[at].Logprob, lp.Logprob, 0)
	require.InDelta(t, float64(raw[7]-raw[lp.Top[0].ID]), float64(lp.Logprob-lp.Top[0].Logprob), 1e-5)
}

// Whatever way a text is cut into pieces, the same text comes out and the same stop string ends it.
func TestStopStringsDoNotDependOnThePieces(t *testing.T) {
	t.Parallel()
	rnd := noise(6)
	for range 3000 {
		var text strings.Builder
		for range rnd.IntN(30) {
			text.WriteByte("ab"[rnd.IntN(2)])
		}
		var stops [][]byte
		for range 1 + rnd.IntN(3) {
			var b []byte
			for range 1 + rnd.IntN(4) {
				b = append(b, "ab"[rnd.IntN(2)])
			}
			stops = append(stops, b)
		}
		want, wantHit := cut(text.String(), stops, func() int { return 1 })
		got, hit := cut(text.String(), stops, func() int { return 1 + rnd.IntN(7) })
		require.Equal(t, want, got, "%q %q", text.String(), stops)
		require.Equal(t, wantHit, hit)
		for _, s := range stops {
			require.NotContains(t, got, string(s))
		}
	}
}

func cut(text string, stops [][]byte, size func() int) (string, int) {
	s := stopper{stops: stops}
	var out []byte
	for len(text) > 0 {
		n := min(size(), len(text))
		var hit int
		if out, hit = s.push(out, text[:n]); hit >= 0 {
			return string(out), hit
		}
		text = text[n:]
	}
	return string(s.flush(out)), -1
}

func TestStopStringTextIsReleasedEarly(t *testing.T) {
	t.Parallel()
	s := stopper{stops: [][]byte{[]byte("END")}}
	out, hit := s.push(nil, "abc E")
	require.Equal(t, "abc ", string(out))
	require.Equal(t, -1, hit)
	out, _ = s.push(nil, "x")
	require.Equal(t, "Ex", string(out))
}
