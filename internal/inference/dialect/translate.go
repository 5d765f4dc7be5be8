package dialect

import (
	"errors"
	"slices"
)

// Form is the wire form of one operation, as a client asks or an upstream answers.
type Form string

// The forms.
const (
	Chat           Form = "chat"            // OpenAI chat completions
	Completion     Form = "completion"      // OpenAI completions
	Responses      Form = "responses"       // OpenAI responses
	Embeddings     Form = "embeddings"      // OpenAI embeddings
	Moderations    Form = "moderations"     // OpenAI moderations
	Messages       Form = "messages"        // Anthropic messages
	Count          Form = "count"           // Anthropic count_tokens
	Generate       Form = "generate"        // Gemini generateContent
	EmbedContents  Form = "embed_contents"  // Gemini batchEmbedContents
	GeminiCount    Form = "gemini_count"    // Gemini countTokens
	Tokenize       Form = "tokenize"        // vLLM's and our engine's /tokenize
	Rerank         Form = "rerank"          // Jina's and vLLM's
	RerankCohere   Form = "rerank_cohere"   // Cohere's second version
	RerankUpstream Form = "rerank_upstream" // what rerankers under an OpenAI-like address take
)

// ErrNoTranslation is returned by New for a pair of forms that have no common meaning.
var ErrNoTranslation = errors.New("there is no translation between these forms")

// Unsupported says that a request holds something that the upstream's form cannot express: dropping it would change what the client gets.
type Unsupported struct{ FieldError }

// Options of one translation.
type Options struct {
	Model       string // the upstream's name of the model, put into the request
	Public      string // the client's name of it, shown in the answer
	ID          string // what ids in the answer end in: unique, plain
	Created     int64  // unix seconds shown where the form has them
	Stream      bool   // the answer is an event stream
	StreamUsage bool   // the upstream takes stream_options.include_usage
	Running     bool   // and tells usage in each event if asked
	AskedUsage  bool   // an OpenAI client asked for the usage event

	MaxTokens   int      // put in where the request names none; 0 = none
	Temperature *float64 // the same
	TopP        *float64 // the same

	MaxCompletion bool // the upstream wants max_completion_tokens
	Extras        bool // the upstream takes top_k and its kin
	Thoughts      bool // the upstream takes earlier reasoning back
}

// Translator turns one call of a client's form into an upstream's form and the answer back. It belongs to one attempt and to one goroutine. It does no I/O and never panics, whatever it is fed.
//
// The methods append to dst and return it. Requests: *FieldError and *Unsupported are the client's mistakes. Answers: any error means that the upstream broke its protocol.
type Translator interface {
	// Request makes the upstream's body.
	Request(dst, body []byte) ([]byte, error)
	// Response makes the client's answer from a whole one.
	Response(dst, body []byte) ([]byte, error)
	// Event takes the data of one event of the upstream's stream and appends what the client shall get of it: whole events, or nothing.
	Event(dst, data []byte) ([]byte, error)
	// Close appends what a stream that ended well still lacks. It is called once, after the last event; a stream that broke off is not closed.
	Close(dst []byte) ([]byte, error)
	// Seen is what the answer told about itself so far. The pointer stays valid.
	Seen() *Seen
}

// Tokens is what an upstream told about its work. The counts are disjoint: the input is Fresh + CacheRead + CacheWrite, the output Text + Reasoning.
type Tokens struct {
	Told                         bool
	Fresh, CacheRead, CacheWrite int64
	Text, Reasoning              int64
	Units                        int64 // what else is counted: searches of a reranker
}

// Prompt is the whole input.
func (t *Tokens) Prompt() int64 { return t.Fresh + t.CacheRead + t.CacheWrite }

// Completion is the whole output.
func (t *Tokens) Completion() int64 { return t.Text + t.Reasoning }

// Seen is what an answer told about itself.
type Seen struct {
	Usage    Tokens
	Final    bool     // Usage is the last word, not one on the way
	Events   int64    // events that carried content: at least a token each
	Bytes    int64    // of content
	Finished bool     // a reason for the end was told
	Done     bool     // the mark behind the last event was seen
	Failed   []byte   // data of an event that says the answer failed
	Dropped  []string // fields of the request that the upstream does not get
}

// drop notes a field that is a mere wish and has no place in the upstream's form.
func (s *Seen) drop(field string) {
	if !slices.Contains(s.Dropped, field) {
		s.Dropped = append(s.Dropped, field)
	}
}

// New makes the translator of one attempt. It is nil where both forms are one: the bytes pass. ErrNoTranslation where the upstream's form has no such thing.
func New(client, upstream Form, o Options) (Translator, error) {
	switch {
	case client == upstream:
		return nil, nil //nolint:nilnil // documented: nothing to translate
	case client == Chat && upstream == Messages:
		return &chatToMessages{o: o}, nil
	case client == Messages && upstream == Chat:
		return &messagesToChat{o: o}, nil
	case client == Responses && upstream == Chat:
		return &responsesToChat{o: o}, nil
	case client == Chat && upstream == Generate:
		return &chatToGenerate{o: o}, nil
	case (client == Responses || client == Messages) && (upstream == Messages || upstream == Generate):
		return newChain(client, upstream, o)
	case client == Embeddings && upstream == EmbedContents:
		return &embedToGemini{o: o}, nil
	case (client == Rerank || client == RerankCohere) && upstream == RerankUpstream:
		return &rerank{o: o, second: client == RerankCohere}, nil
	case client == Count && (upstream == Tokenize || upstream == GeminiCount):
		return &count{o: o, gemini: upstream == GeminiCount}, nil
	}
	return nil, ErrNoTranslation
}
