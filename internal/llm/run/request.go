package run

import (
	"time"

	"maas/internal/platform/fault"
)

// Errors of this package.
var (
	ErrContextLength = fault.New(fault.Invalid, "llm.context_length", "the prompt does not fit the context of the model")
	ErrRequest       = fault.New(fault.Invalid, "llm.request_invalid", "a parameter of the request is outside its range")
	ErrBusy          = fault.New(fault.Unavailable, "llm.engine_busy", "the engine's queue is full")
	ErrClosed        = fault.New(fault.Unavailable, "llm.engine_closed", "the engine is closed")
	ErrFailed        = fault.New(fault.Internal, "llm.engine_failed", "the engine failed while computing this request")
)

// Class orders requests: every interactive one comes before any batch one.
type Class uint8

// Classes, the zero value first.
const (
	Interactive Class = iota
	Batch
)

// Finish says why a choice ended.
type Finish string

// Reasons. Empty = not ended.
const (
	FinishStop   Finish = "stop"   // end-of-generation token, stop string or stop id
	FinishLength Finish = "length" // max_tokens or the context is used up
	FinishAbort  Finish = "abort"  // the caller cancelled or closed the stream
	FinishError  Finish = "error"  // the engine failed; Next returns the error
)

// Request is one prompt and how to continue it. The zero value of every sampling field means off or the neutral value, except Temperature, whose zero is greedy.
type Request struct {
	Prompt []int32 // token ids, at least one
	Tenant string  // fair share between tenants
	Salt   string  // prefix pages are shared only between requests of equal salt; give the tenant
	Class  Class

	MaxTokens int // per choice; 0 = as many as the context holds
	MinTokens int // no end token and no stop string before that many
	N         int // choices sharing the prompt, 1..16; 0 = 1

	Temperature       float64           // 0 = greedy
	TopK              int               // 0 = off
	TopP              float64           // 0 or 1 = off
	MinP              float64           // 0 = off
	RepetitionPenalty float64           // 0 or 1 = off; over prompt and output
	FrequencyPenalty  float64           // -2..2, over the output
	PresencePenalty   float64           // -2..2, over the output
	LogitBias         map[int32]float32 // added before everything else; -100 and below bans
	Seed              *uint64           // nil = a random one, told in Stream.Seed

	Stop       []string // at most 16 of at most 256 bytes; never part of the text
	StopTokens []int32
	IgnoreEOS  bool

	KeepSpecial bool // show control tokens as text, for parsers of tool calls; end tokens are never shown

	Logprobs       bool // log probability of each chosen token
	TopLogprobs    int  // and of the k most likely, 0..20
	PromptLogprobs bool // also for prompt tokens (switches prefix hits off for this request)

	// Logits, if set, sees the raw logits of each sampled position before anything is applied to them; the slice is the engine's and must not be kept. Called on the engine's goroutine. For tests and tools.
	Logits func(index, pos int, logits []float32)
}

// TokenLogprob is one token with its natural-log probability under the raw distribution (no penalty, temperature or cut).
type TokenLogprob struct {
	ID      int32
	Logprob float32
	Top     []TokenLogprob // most likely first; Top of these is nil
}

// Usage counts tokens. It is exact at every chunk, also after an abort.
type Usage struct {
	Prompt     int // tokens of the prompt
	Cached     int // of these, taken from the prefix cache
	Completion int // tokens generated over all choices, end tokens included
}

// Chunk is one step of a stream: new text of one choice, or the end of one, or the end of all.
type Chunk struct {
	Index    int            // choice, 0..N-1
	Text     string         // whole runes; may be empty
	Tokens   []int32        // ids behind this chunk, also those whose text is still held back
	Logprobs []TokenLogprob // one per entry of Tokens when asked for
	Finish   Finish         // set on the last chunk of a choice
	StopText string         // the stop string that matched, if one did
	Prompt   []TokenLogprob // first chunk only, when PromptLogprobs; the first entry has no probability
	Usage    Usage          // so far, over all choices
	Done     bool           // the last chunk: all choices have ended
	Timing   Timing         // of the first choice; complete on the last chunk
}

// Timing says where the time of a request went.
type Timing struct {
	Queued  time.Duration // from Generate to the first computed token of the prompt
	Prefill time.Duration // from there to the first generated token
	Decode  time.Duration // from there to the end
}

// Stats is a snapshot of the engine.
type Stats struct {
	Running, Waiting   int
	MaxSeqs            int
	Pages, FreePages   int // free = not held by any sequence, whether cached or empty
	CachedPages        int // of the free ones, those holding a prefix
	PageTokens         int
	Steps              int64
	PromptTokens       int64 // computed, without cache hits
	CachedTokens       int64
	CompletionTokens   int64
	PrefixQueries      int64 // prompt tokens looked up
	PrefixHits         int64 // of these, found
	Preemptions        int64
	Finished           map[Finish]int64
	KVBytes            int64
	MaxCtx             int
	LastStepTokens     int
	LastStepMicros     int64
	GeneratedPerSecond float64 // over the last ten seconds
}
