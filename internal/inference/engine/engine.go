// Package engine is the plug point for what runs a model: a driver per engine, one instance per attempt of a replica, one endpoint per instance.
//
// The data plane of every engine is HTTP/1.1 in the OpenAI dialect on a unix socket or TCP; drivers differ in control only. So a caller copies bytes from any engine in one way, and a driver is done when
// the exported suite in enginetest passes. Drivers import this package; this package imports none of them and knows no deployments, tenants or database.
package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"maas/internal/platform/fault"
)

// The errors of every driver. Fit and Start return them (or wrap them); anything else a driver returns counts as Internal.
var (
	ErrModelCorrupt  = fault.New(fault.Conflict, "inference.model_corrupt", "the model files cannot be read by this engine")
	ErrArch          = fault.New(fault.Conflict, "inference.arch_unsupported", "this engine does not know the model's architecture")
	ErrFormat        = fault.New(fault.Conflict, "inference.format_unsupported", "this engine does not read this file format")
	ErrNoFit         = fault.New(fault.Conflict, "inference.host_memory", "the model does not fit into memory")
	ErrBusy          = fault.New(fault.Limited, "inference.engine_busy", "the engine takes no more requests at the moment")
	ErrEngineDied    = fault.New(fault.Unavailable, "inference.start_exit", "the engine process ended")
	ErrKilled        = fault.New(fault.Unavailable, "inference.oom_killed", "the engine process was killed")
	ErrStalled       = fault.New(fault.Unavailable, "inference.load_stalled", "the engine showed no progress while starting")
	ErrSmoke         = fault.New(fault.Unavailable, "inference.smoke_failed", "the engine answered its first request wrongly")
	ErrGone          = fault.New(fault.NotFound, "inference.engine_gone", "the engine is no longer there")
	ErrUnavailable   = fault.New(fault.Unavailable, "inference.engine_unavailable", "the engine does not answer")
	ErrMissing       = fault.New(fault.Unavailable, "inference.engine_missing", "this engine is not installed here")
	ErrUpstreamAuth  = fault.New(fault.Upstream, "inference.upstream_auth", "the upstream refused our credential")
	ErrUpstream      = fault.New(fault.Upstream, "inference.upstream_unreachable", "the upstream does not answer")
	ErrUpstreamModel = fault.New(fault.Upstream, "inference.upstream_model", "the upstream does not offer this model")
)

// Driver starts and finds instances of one kind of engine. Its methods may be called from several goroutines at once.
type Driver interface {
	// Name is the word users write as `engine`.
	Name() string
	// Probe says whether the engine is usable here and what it can do. ErrMissing when it is not installed.
	Probe(ctx context.Context) (Capabilities, error)
	// Fit computes what a launch needs from the files' headers; it never loads and never starts anything. ErrModelCorrupt, ErrArch, ErrFormat when the files can never run here.
	// The answer holds alternatives, best first. Whether the memory is there is the caller's question.
	Fit(ctx context.Context, l Launch) ([]Need, error)
	// Start begins an instance and returns as soon as it exists; loading goes on behind it and is told through p (never called after Stop or the end) and Health. p may be nil.
	// It is idempotent on (replica, attempt). ctx bounds the start call alone, not the life of the instance.
	Start(ctx context.Context, l Launch, p func(Progress)) (Instance, error)
	// Attach finds an instance again after our own restart, by what Ref holds, and proves by the nonce that it is the same one. ErrGone when it is not.
	Attach(ctx context.Context, ref Ref) (Instance, error)
}

// Instance is one running engine: one attempt of one replica. Methods may be called from several goroutines.
type Instance interface {
	// Ref is what Attach needs after a restart of the server; it holds no secret.
	Ref() Ref
	// Endpoint is where the data plane answers. Valid once Health says Ready.
	Endpoint() Endpoint
	// Smoke has the engine generate one token: the last proof before requests come. ErrSmoke when the answer is wrong.
	Smoke(ctx context.Context) error
	// Health asks the engine. An engine that is gone is State Dead with the reason, not an error.
	Health(ctx context.Context) Health
	// Load tells how busy the engine is. ErrUnavailable when it does not tell.
	Load(ctx context.Context) (Load, error)
	// Measure tells what the engine really uses.
	Measure(ctx context.Context) (Usage, error)
	// Stop ends the instance: asks, waits up to grace, kills the whole process group, returns when the memory is free. It may be called again and on a dead instance.
	Stop(ctx context.Context, grace time.Duration) error
	// Done is closed when the instance has ended for any reason. Instances without a process (an upstream) never close it before Stop.
	Done() <-chan struct{}
}

// Tailer is an Instance that keeps its last log output.
type Tailer interface {
	// Tail returns up to n last bytes, cut at a line border.
	Tail(n int) []byte
}

// Sweeper is a Driver that leaves files behind when the server is killed.
type Sweeper interface {
	// Sweep removes what belongs to no attempt of keep. It is called once, before the first start.
	Sweep(keep []Ref)
}

// Launch is everything a driver needs to start one attempt of a replica. Files are read-only.
type Launch struct {
	Replica     string   // id of the replica
	Attempt     int      // 1, 2, ...: also the fence, the newest wins
	Nonce       string   // random; an answer that does not show it comes from a foreign engine
	Dir         string   // folder with the model's files; "" for an upstream
	Files       []string // paths inside Dir
	Format      string   // "gguf" or "safetensors"; "" for an upstream
	Model       string   // the name the engine shall know the model by on its data plane; the upstream's name of it for an upstream
	Context     int      // tokens a request may hold; 0 = the model's own limit
	Concurrency int      // requests at a time; at least 1
	KVType      string   // "f16" (default), "f32"
	Threads     int      // CPU threads; 0 = all cores
	HostBytes   int64    // memory the instance may use; 0 = no limit set
	Defaults    Defaults // sampling defaults of the deployment, applied by engines that can
	Upstream    *Upstream
}

// Upstream is an account at somebody else's server.
type Upstream struct {
	BaseURL string  // "https://host/v1"; paths are joined to it
	Key     Secret  // sent the way the dialect wants it; "" = none
	Dialect Dialect // "" = OpenAI
	Version string  // of the API where the dialect has one in the address (Azure); "" = the newest form
	Caps    Caps    // what is known of this upstream beyond its dialect
}

// Secret is text that never shows in logs, JSON or formatting.
type Secret string

// String implements fmt.Stringer: redacted.
func (Secret) String() string { return "***" }

// GoString keeps %#v silent too.
func (Secret) GoString() string { return "***" }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON writes "***": a secret travels by its own sealed path only.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal("***") }

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// Defaults are sampling values used where a request names none. Nil or 0 = the model file's own, else the engine's.
type Defaults struct {
	MaxTokens   int      `json:"max_tokens,omitempty"`
	Temperature *float64 `json:"temperature,omitempty"`
	TopP        *float64 `json:"top_p,omitempty"`
}

// Zero reports that nothing is set.
func (d Defaults) Zero() bool { return d.MaxTokens == 0 && d.Temperature == nil && d.TopP == nil }

// Need is what a launch takes. Bytes are of host memory.
type Need struct {
	Label       string           `json:"label"` // "cpu"
	HostBytes   int64            `json:"host_bytes"`
	Parts       map[string]int64 `json:"parts"`       // weights, kv, scratch, fixed: they sum to HostBytes
	Context     int              `json:"context"`     // tokens a request, after defaults were filled
	MaxContext  int              `json:"max_context"` // the model's own limit
	PerToken    int64            `json:"per_token"`   // bytes one more token of context costs over all slots: what a smaller context saves
	Concurrency int              `json:"concurrency"`
}

// Capabilities of an engine on this machine.
type Capabilities struct {
	Engine  string   `json:"engine"`
	Version string   `json:"version,omitempty"`
	Devices []string `json:"devices"` // "cpu", "upstream"
	Formats []string `json:"formats"`
	Tasks   []string `json:"tasks"` // chat, completion
	Detail  string   `json:"detail,omitempty"`
}

// Dialect is the wire form an endpoint speaks.
type Dialect string

// The dialects. Azure is OpenAI's in other paths with another credential header.
const (
	OpenAI    Dialect = "openai"
	Anthropic Dialect = "anthropic"
	Gemini    Dialect = "gemini"
	Azure     Dialect = "azure"
)

// Ops is a set of operations that an endpoint answers. The zero value means chat and completion: what every engine of ours does.
type Ops uint16

// The operations.
const (
	OpChat Ops = 1 << iota
	OpCompletion
	OpEmbedding
	OpModeration
	OpRerank
	OpCount // tells how many tokens a prompt has
)

// Task names the foremost of the operations: chat, completion, embedding, rerank or moderation.
func (o Ops) Task() string {
	for _, t := range []struct {
		op   Ops
		name string
	}{{OpChat, "chat"}, {OpCompletion, "completion"}, {OpEmbedding, "embedding"}, {OpRerank, "rerank"}} {
		if o.Has(t.op) {
			return t.name
		}
	}
	return "moderation"
}

// Has reports whether all of the wanted operations are in the set.
func (o Ops) Has(want Ops) bool {
	if o == 0 {
		o = OpChat | OpCompletion
	}
	return o&want == want
}

// Endpoint is where a ready instance answers.
type Endpoint struct {
	ID       string   // unique per attempt
	Network  string   // "unix" or "tcp"
	Addr     string   // socket path, or host:port
	Host     string   // value of the Host header
	BasePath string   // "/v1": the path of the operation is appended
	Query    string   // "api-version=..": put behind each path; "" = none
	TLS      bool     // https; the certificate must match Host
	Dialect  Dialect  // "" = OpenAI
	Model    string   // the model's name on the engine's side: put it into the body's `model`. "" = the engine takes and echoes any name: leave the body alone
	Auth     Secret   // whole value of the credential's header, "" = none
	AuthName string   // name of that header; "" = Authorization
	Headers  []string // further headers: name, value, name, value
	Slots    int      // requests at a time that make sense
	Context  int      // tokens a request may hold, 0 = unknown
	Caps     Caps
}

// Path is what a request line holds for a path below BasePath.
func (e *Endpoint) Path(path string) string {
	if e.Query == "" {
		return e.BasePath + path
	}
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	return e.BasePath + path + mark + e.Query
}

// Caps are properties of an endpoint that change how a caller talks to it.
type Caps struct {
	AbortNonStream bool // ends a whole-answer request when its client leaves; false: stream and join instead
	OwnDefaults    bool // applies the deployment's sampling defaults itself; false: the caller splices Defaults
	StreamUsage    bool // honours stream_options.include_usage
	MaxCompletion  bool // wants max_completion_tokens where others want max_tokens
	Extras         bool // takes sampling values beyond OpenAI's: top_k, min_p, ...
	Thoughts       bool // takes reasoning_content of earlier answers back
	Ops            Ops  // what it answers; 0 = chat and completion
}

// State of an instance's health.
type State string

// The states.
const (
	Starting State = "starting" // no sign of readiness yet
	Loading  State = "loading"  // reads weights; Progress tells how far
	Ready    State = "ready"    // takes requests and proved to be ours
	Draining State = "draining" // answers running requests only
	Dead     State = "dead"     // gone; Err says why
)

// Health of an instance.
type Health struct {
	State    State
	Progress Progress
	Err      error // for Dead: an error of this package
}

// Progress of a start.
type Progress struct {
	Stage string `json:"stage"`          // "starting", "load", "ready"
	Done  int64  `json:"done"`           // bytes
	Total int64  `json:"total"`          // bytes; 0 = unknown
	Unit  string `json:"unit,omitempty"` // "bytes"
	Note  string `json:"note,omitempty"`
}

// Load of an engine at one moment; counters run since its start.
type Load struct {
	Running          int     `json:"running"`
	Waiting          int     `json:"waiting"`
	KVUsage          float64 `json:"kv_usage"` // 0..1
	PromptTokens     int64   `json:"prompt_tokens"`
	GenerationTokens int64   `json:"generation_tokens"`
	CachedTokens     int64   `json:"cached_tokens"`
	Requests         int64   `json:"requests"`
}

// Usage is what an instance was measured to use.
type Usage struct {
	HostBytes int64 `json:"host_bytes"` // resident set of the process group; 0 for an upstream
	Context   int   `json:"context"`    // what the engine really runs with, 0 = unknown
}

// Ref finds an instance again. Stored as JSON with the replica.
type Ref struct {
	Driver  string    `json:"driver"`
	Replica string    `json:"replica"`
	Attempt int       `json:"attempt"`
	Nonce   string    `json:"nonce"`
	PID     int       `json:"pid,omitempty"`
	Started int64     `json:"started,omitempty"` // start time of the process in clock ticks since boot: a pid alone may be another's by now
	Socket  string    `json:"socket,omitempty"`
	Launch  *RefSpec  `json:"launch,omitempty"`
	At      time.Time `json:"at,omitzero"`
}

// RefSpec is the part of Launch that an attached instance still needs.
type RefSpec struct {
	Model       string   `json:"model"`
	Context     int      `json:"context"`
	Concurrency int      `json:"concurrency"`
	Defaults    Defaults `json:"defaults"`
}

// Pulse is an Instance that tells whether it is alive while it starts: the number changes with every answer, log line, CPU time or growth of memory.
type Pulse interface {
	Pulse() uint64
}
