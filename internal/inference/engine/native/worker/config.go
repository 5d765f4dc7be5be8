// Package worker is the child process of the native engine: it loads one model and serves it in the OpenAI dialect on a unix socket until it is told to stop.
//
// Control. The parent writes one JSON line, [Config], to standard input and keeps that open. Its end starts the orphan timer (30 seconds), after which the process drains and leaves. A server that takes over keeps it
// alive by holding a request POST /attach {"nonce":..,"fence":N} open, N being at least the fence of Config: the answer's headers come at once, its body never ends; when it breaks off, the timer starts again.
// Progress, readiness and fatal errors are JSON lines, [Note], on standard output; standard error carries JSON logs. SIGTERM drains: new requests get 503, running ones end, at most drain_seconds long.
// Exit codes are the Exit constants.
//
// Data plane, HTTP/1.1 on the unix socket: POST /v1/chat/completions, /v1/completions, or for encoders /v1/embeddings or /v1/rerank; /tokenize, /detokenize; GET /v1/models (the first id is the nonce, its "root" the model's name), /health (503 with
// {"status":"loading","percent":42,"done":..,"total":..} while loading, then 200 {"status":"ok"}, 503 {"status":"draining"}), /metrics (vLLM's names), /stats; POST /drain (202; leaves when the running ones have
// ended). The header X-Maas-Tenant names the account a request counts for: tenants get equal shares, and cached prefixes are shared within a tenant only, so that nobody can time what others asked; the body's
// cache_salt narrows that further. X-Maas-Class: batch yields to everything else. A client that closes its connection ends its request, streamed or not.
package worker

// Exit codes of the worker process.
const (
	ExitAsked    = 0 // drained, signalled or orphaned
	ExitConfig   = 2 // the configuration line is wrong
	ExitCorrupt  = 3 // the model files cannot be run
	ExitMemory   = 4 // not enough memory for weights or cache
	ExitInternal = 5 // a bug of ours
)

// Config is the first line on standard input.
type Config struct {
	Replica string `json:"replica"`
	Attempt int    `json:"attempt"`
	Fence   int64  `json:"fence"`
	Nonce   string `json:"nonce"`           // shown as the model's id on /v1/models, so that the parent knows its own child
	Model   string `json:"model,omitempty"` // the public name; any name in a request is accepted and echoed

	Dir   string   `json:"dir"`             // folder of the model's files
	Files []string `json:"files,omitempty"` // names in Dir; empty = found by looking. A .gguf (first shard suffices) or a safetensors folder

	Socket  string `json:"socket"`            // unix socket to make, 0600; the path must stay under 104 bytes
	Threads int    `json:"threads,omitempty"` // 0 = cores of the machine within the cgroup's quota
	KVBytes int64  `json:"kv_bytes"`          // key/value cache; 0 = enough for Context x MaxSeqs
	KVType  string `json:"kv_type,omitempty"` // f16 (default) or f32
	Context int    `json:"context,omitempty"` // longest sequence; 0 = the model's
	MaxSeqs int    `json:"max_seqs,omitempty"`
	Kernel  string `json:"kernel,omitempty"` // kernel level by name; empty = the best of this processor

	Template      string `json:"template,omitempty"`       // chat template that wins over the model's
	MemoryLimit   int64  `json:"memory_limit,omitempty"`   // bytes reserved for this process; 0 = unlimited
	OrphanSeconds int    `json:"orphan_seconds,omitempty"` // 0 = 30
	DrainSeconds  int    `json:"drain_seconds,omitempty"`  // 0 = 60
}

// Note is one line on standard output.
//
//	{"t":"load","done":1048576,"total":4194304}       bytes of weights packed
//	{"t":"ready","context":8192,"slots":16,"kv_bytes":..., "pages":...,"model":{...}}
//	{"t":"note","message":"..."}                       something worth showing to an operator
//	{"t":"fatal","code":"llm.tensor_missing","message":"..."}   followed by exit
type Note struct {
	T       string `json:"t"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Context int    `json:"context,omitempty"`
	Slots   int    `json:"slots,omitempty"`
	KVBytes int64  `json:"kv_bytes,omitempty"`
	Pages   int    `json:"pages,omitempty"`

	Tasks   []string `json:"tasks,omitempty"` // of an encoder: embedding or rerank
	Model   any      `json:"model,omitempty"` // arch.Config
	Code    string   `json:"code,omitempty"`
	Message string   `json:"message,omitempty"`
}
