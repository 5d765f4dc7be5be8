package run

import (
	"cmp"
	"time"

	"maas/internal/llm/token"
)

// tenant is the account of fair share: among those with work, the one served least goes first.
type tenant struct {
	name    string
	served  float64 // tokens computed for it, raised to the least of the active ones when it comes back
	active  int     // sequences waiting or running
	running int
}

// expected is what an admitted sequence counts for until its tokens are: so that one tenant's burst does not take all slots at once.
const expected = 256

func (t *tenant) load() float64 { return t.served + float64(t.running*expected) }

// generation is a request inside the engine.
type generation struct {
	req    Request
	stream *Stream
	tenant *tenant
	held   []*seq // choices that wait until the first one has computed the shared prompt
	came   time.Time
	live   int // sequences not ended
}

// seq is one choice of a request: its tokens, its pages and the state of its sampler. The engine's loop owns it.
type seq struct {
	gen    *generation
	choice int
	order  uint64 // arrival
	limit  int    // tokens at which the sequence is full
	tokens []int32
	made   int // generated ones among them

	done   int     // positions whose keys and values are in pages
	pages  []int32 // page table
	leaf   *node   // deepest tree node held, nil while waiting
	shared int     // leading pages that are tree nodes
	alone  bool    // a hash collision keeps its pages out of the tree
	again  bool    // was preempted

	last    uint64 // step that served it last
	inBatch bool
	out     int // index into Batch.Out of its first wanted row, -1 = none

	sampler *sampler
	stop    stopper
	text    *token.Stream
	buf     []byte
	lp      TokenLogprob
	chosen  int32
	plp     []TokenLogprob

	started, first time.Time
	timing         Timing
}

// before is the order of service between sequences of one engine: class, then arrival.
func before(a, b *seq) int {
	if c := cmp.Compare(a.gen.req.Class, b.gen.req.Class); c != 0 {
		return c
	}
	return cmp.Compare(a.order, b.order)
}

// pending is how many positions are known but not computed.
func (s *seq) pending() int { return len(s.tokens) - s.done }

// decoding says that only the last sampled token is to be computed.
func (s *seq) decoding() bool { return s.made > 0 && s.pending() == 1 }

// pagesFor returns how many pages n positions take.
func pagesFor(n int) int { return (n + pageTokens - 1) / pageTokens }

// wantsPrompt says that log probabilities of the prompt are still to be collected.
func (s *seq) wantsPrompt() bool {
	return s.gen.req.PromptLogprobs && s.choice == 0 && s.made == 0
}
