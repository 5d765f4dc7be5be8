package run

import (
	"cmp"
	"math"
	"slices"

	"maas/internal/llm/kernel"
)

// candidate is a token with its logit, later its probability.
type candidate struct {
	id int32
	x  float64
}

// byRank orders candidates: greater value first, lower id on ties.
func byRank(a, b candidate) int {
	if c := cmp.Compare(b.x, a.x); c != 0 {
		return c
	}
	return cmp.Compare(a.id, b.id)
}

// seen counts one token of a sequence for the penalties.
type seen struct {
	prompt bool
	out    int32
}

// sampler chooses tokens for one sequence.
type sampler struct {
	r      *Request
	seed   uint64
	choice int
	counts map[int32]seen // only with penalties
	banned []int32        // end tokens, while min_tokens is not reached
}

// scratch is the memory that choosing a token takes; one serves any number of sequences, one after another.
type scratch struct {
	cand, top []candidate
	raw       []float32
	weights   []float64
	mass      [2048]float64 // of border
}

func newSampler(r *Request, seed uint64, choice int, end []int32) *sampler {
	s := &sampler{r: r, seed: seed, choice: choice}
	if r.MinTokens > 0 {
		s.banned = end
	}
	if r.penalises() {
		s.counts = make(map[int32]seen, len(r.Prompt))
		for _, id := range r.Prompt {
			s.counts[id] = seen{prompt: true}
		}
	}
	return s
}

func (r *Request) penalises() bool {
	return r.RepetitionPenalty != 0 && r.RepetitionPenalty != 1 || r.FrequencyPenalty != 0 || r.PresencePenalty != 0
}

// accept records a chosen token.
func (s *sampler) accept(id int32) {
	if s.counts != nil {
		c := s.counts[id]
		c.out++
		s.counts[id] = c
	}
}

// next chooses the token at position pos from the logits, which it changes. made is the number of tokens generated so far. lp is filled unless nil.
func (s *sampler) next(sc *scratch, logits []float32, pos, made int, lp *TokenLogprob) int32 {
	var raw *rawDist
	if lp != nil {
		raw = sc.distribution(logits, s.r.TopLogprobs, lp)
	}
	src := logits
	if raw != nil && s.changesLogits(made) {
		sc.raw = append(sc.raw[:0], logits...) // the chosen one's raw logit is needed after they were changed
		src = sc.raw
	}
	s.penalise(logits, made)
	id := s.choose(sc, logits, pos)
	if raw != nil {
		lp.ID, lp.Logprob = id, float32(float64(src[id])-raw.max-raw.logSum)
	}
	return id
}

func (s *sampler) changesLogits(made int) bool {
	return len(s.r.LogitBias) > 0 || s.counts != nil || made < s.r.MinTokens
}

// rawDist normalises logits: log p(id) = logit - max - logSum.
type rawDist struct{ max, logSum float64 }

// distribution fills lp.Top with the k most likely tokens of the untouched logits.
func (sc *scratch) distribution(logits []float32, k int, lp *TokenLogprob) *rawDist {
	m := math.Inf(-1)
	for _, x := range logits {
		m = max(m, float64(x))
	}
	sum := 0.0
	for _, x := range logits {
		if d := float64(x) - m; d > -40 {
			sum += exp64(d)
		}
	}
	d := &rawDist{max: m, logSum: math.Log(sum)}
	lp.Top = nil
	if k > 0 {
		sc.top = largest(sc.top[:0], logits, k)
		lp.Top = make([]TokenLogprob, len(sc.top))
		for i, c := range sc.top {
			lp.Top[i] = TokenLogprob{ID: c.id, Logprob: float32(c.x - d.max - d.logSum)}
		}
	}
	return d
}

// penalise applies bias, bans and penalties in place.
func (s *sampler) penalise(logits []float32, made int) {
	for id, b := range s.r.LogitBias {
		if b <= -100 {
			logits[id] = float32(math.Inf(-1))
		} else {
			logits[id] += b
		}
	}
	if made < s.r.MinTokens {
		for _, id := range s.banned {
			logits[id] = float32(math.Inf(-1))
		}
		for _, id := range s.r.StopTokens {
			logits[id] = float32(math.Inf(-1))
		}
	}
	rep, freq, pres := float32(s.r.RepetitionPenalty), float32(s.r.FrequencyPenalty), float32(s.r.PresencePenalty)
	for id, c := range s.counts {
		x := logits[id]
		if rep != 0 && rep != 1 {
			if x > 0 {
				x /= rep
			} else {
				x *= rep
			}
		}
		if c.out > 0 {
			x -= float32(freq*float32(c.out)) + pres
		}
		logits[id] = x
	}
}

// choose draws from the changed logits: greedy, or temperature, top_k, top_p, min_p and one random number, in this order. Weights are relative to the most likely token, which has 1.
func (s *sampler) choose(sc *scratch, logits []float32, pos int) int32 {
	best := argmax(logits)
	if s.r.Temperature <= 0 {
		return best
	}
	top, inverse := float64(logits[best]), 1/s.r.Temperature
	if s.r.TopK > 0 && s.r.TopK < len(logits) {
		return s.chooseOf(sc, logits, top, inverse, pos)
	}
	if cap(sc.weights) < len(logits) {
		sc.weights = make([]float64, len(logits))
	}
	w, sum := sc.weights[:len(logits)], 0.0
	for id, x := range logits {
		// What lies 40 below the best has less than 2^-57 of its probability: beyond the 53 bits of the draw.
		e := 0.0
		if d := (float64(x) - top) * inverse; d > -40 {
			e = exp64(d)
		}
		w[id] = e
		sum += e
	}
	cut := candidate{math.MaxInt32, 0}
	if p := s.r.TopP; p > 0 && p < 1 {
		cut = sc.border(w, p*sum)
	}
	if s.r.MinP > cut.x {
		cut = candidate{math.MaxInt32, s.r.MinP}
	}
	if cut.x > 0 {
		sum = 0
		for id, x := range w {
			if x > cut.x || x == cut.x && int32(id) <= cut.id {
				sum += x
			} else {
				w[id] = 0
			}
		}
	}
	at := uniform(s.seed, s.choice, pos) * sum
	for id, x := range w {
		if at -= x; at < 0 {
			return int32(id)
		}
	}
	return best // only if no weight was a number
}

// chooseOf is choose with top_k: few candidates, greatest first.
func (s *sampler) chooseOf(sc *scratch, logits []float32, top, inverse float64, pos int) int32 {
	c := largest(sc.cand[:0], logits, s.r.TopK)
	sc.cand = c
	sum := 0.0
	for i := range c {
		c[i].x = exp64((c[i].x - top) * inverse)
		sum += c[i].x
	}
	n := len(c)
	if p := s.r.TopP; p > 0 && p < 1 {
		mass := p * sum
		sum = 0
		for n = 0; n < len(c) && sum < mass; n++ {
			sum += c[n].x
		}
		n = max(n, 1)
	}
	for n > 1 && c[n-1].x < s.r.MinP {
		n--
	}
	sum = 0
	for _, a := range c[:n] {
		sum += a.x
	}
	at := uniform(s.seed, s.choice, pos) * sum
	for _, a := range c[:n] {
		if at -= a.x; at < 0 {
			return a.id
		}
	}
	return c[0].id
}

// border returns the last of the tokens that have a mass together when the most likely are taken first, lower ids first on ties. It sums by classes of weight (exponent and first bit of the mantissa) and sorts
// only the class in which the mass is reached.
func (sc *scratch) border(w []float64, mass float64) candidate {
	class := func(x float64) int { return int(math.Float64bits(x) >> 51) } // below 2047 for 0 <= x <= 1
	clear(sc.mass[:])
	for _, x := range w {
		sc.mass[class(x)&(len(sc.mass)-1)] += x
	}
	at, sum := len(sc.mass)-1, 0.0
	for ; at > 0 && sum+sc.mass[at] < mass; at-- {
		sum += sc.mass[at]
	}
	c := sc.cand[:0]
	for id, x := range w {
		if class(x) == at {
			c = append(c, candidate{int32(id), x})
		}
	}
	sc.cand = c
	slices.SortFunc(c, byRank)
	for _, a := range c {
		if sum += a.x; sum >= mass {
			return a
		}
	}
	if len(c) > 0 {
		return c[len(c)-1]
	}
	return candidate{math.MaxInt32, 0}
}

// largest appends the k greatest logits in order, greatest first and lower ids first on ties.
func largest(dst []candidate, logits []float32, k int) []candidate {
	worstFirst := func(a, b candidate) int { return byRank(b, a) }
	floor := float32(math.Inf(-1)) // of the k so far; an equal one that comes later has a higher id and loses
	for id, x := range logits {
		switch {
		case len(dst) < k:
			if x != x {
				continue
			}
			dst = append(dst, candidate{int32(id), float64(x)})
			if len(dst) == k {
				heapify(dst, worstFirst)
				floor = float32(dst[0].x)
			}
		case x > floor:
			dst[0] = candidate{int32(id), float64(x)}
			sift(dst, 0, worstFirst)
			floor = float32(dst[0].x)
		}
	}
	slices.SortFunc(dst, byRank)
	return dst
}

func heapify(c []candidate, order func(a, b candidate) int) {
	for i := len(c)/2 - 1; i >= 0; i-- {
		sift(c, i, order)
	}
}

// sift moves element i down to its place in a heap whose first element is the least in the order.
func sift(c []candidate, i int, order func(a, b candidate) int) {
	for {
		l := 2*i + 1
		if l >= len(c) {
			return
		}
		if r := l + 1; r < len(c) && order(c[r], c[l]) < 0 {
			l = r
		}
		if order(c[i], c[l]) <= 0 {
			return
		}
		c[i], c[l] = c[l], c[i]
		i = l
	}
}

// argmax returns the id of the greatest logit, the lowest id on ties. Not-a-number never wins.
func argmax(x []float32) int32 { return int32(max(kernel.Argmax(x), 0)) }
