package inference

import (
	"net/url"
	"strings"

	"maas/internal/inference/engine"
)

// The kinds of providers: which dialect the upstream speaks, and in which paths.
const (
	KindOpenAI    = "openai"
	KindAnthropic = "anthropic"
	KindGemini    = "gemini"
	KindAzure     = "azure"
)

// Preset is a known upstream: what a provider of it starts from.
type Preset struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Kind    string   `json:"kind" enum:"openai,anthropic,gemini,azure"`
	BaseURL string   `json:"base_url" doc:"May hold a part in capitals that must be replaced"`
	Needs   []string `json:"needs" doc:"Fields that must be filled in: api_key, base_url, api_version"`
	Docs    string   `json:"docs,omitempty" doc:"Where the provider explains its API"`

	caps engine.Caps
}

const anyOp = engine.OpChat | engine.OpCompletion | engine.OpEmbedding | engine.OpModeration | engine.OpRerank

var (
	hosted = engine.Caps{StreamUsage: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpEmbedding}
	// thinking upstreams want the thoughts of earlier turns back, at least while tools are called.
	thinking = engine.Caps{StreamUsage: true, Thoughts: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpEmbedding}
	own      = engine.Caps{StreamUsage: true, Thoughts: true, Extras: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpEmbedding | engine.OpRerank}
	// counting ones tell how many tokens a conversation has, beside their version.
	counting = engine.Caps{StreamUsage: true, Thoughts: true, Extras: true, Ops: own.Ops | engine.OpCount}
	// rankers embed and rank, and do nothing else.
	rankers = engine.Caps{Ops: engine.OpEmbedding | engine.OpRerank}
)

// presets are the upstreams that we know by name. Addresses as their documents give them in November 2026.
var presets = []Preset{
	{ID: "openai", Name: "OpenAI", Kind: KindOpenAI, BaseURL: "https://api.openai.com/v1", Needs: []string{"api_key"}, Docs: "https://platform.openai.com/docs", caps: engine.Caps{StreamUsage: true, MaxCompletion: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpEmbedding | engine.OpModeration}},
	{ID: "anthropic", Name: "Anthropic", Kind: KindAnthropic, BaseURL: "https://api.anthropic.com/v1", Needs: []string{"api_key"}, Docs: "https://docs.anthropic.com"},
	{ID: "gemini", Name: "Google Gemini", Kind: KindGemini, BaseURL: "https://generativelanguage.googleapis.com/v1beta", Needs: []string{"api_key"}, Docs: "https://ai.google.dev/api"},
	{ID: "azure", Name: "Azure OpenAI", Kind: KindAzure, BaseURL: "https://RESOURCE.openai.azure.com", Needs: []string{"base_url", "api_key"}, Docs: "https://learn.microsoft.com/azure/ai-services/openai/reference"},
	{ID: "deepseek", Name: "DeepSeek", Kind: KindOpenAI, BaseURL: "https://api.deepseek.com/v1", Needs: []string{"api_key"}, Docs: "https://api-docs.deepseek.com", caps: thinking},
	{ID: "qwen", Name: "Qwen (Alibaba Cloud Model Studio)", Kind: KindOpenAI, BaseURL: "https://dashscope.aliyuncs.com/compatible-mode/v1", Needs: []string{"api_key"}, Docs: "https://help.aliyun.com/zh/model-studio", caps: thinking},
	{ID: "moonshot", Name: "Moonshot (Kimi)", Kind: KindOpenAI, BaseURL: "https://api.moonshot.cn/v1", Needs: []string{"api_key"}, Docs: "https://platform.moonshot.cn/docs", caps: thinking},
	{ID: "zhipu", Name: "Zhipu (GLM)", Kind: KindOpenAI, BaseURL: "https://open.bigmodel.cn/api/paas/v4", Needs: []string{"api_key"}, Docs: "https://docs.bigmodel.cn", caps: thinking},
	{ID: "volcengine", Name: "Volcengine Ark (Doubao)", Kind: KindOpenAI, BaseURL: "https://ark.cn-beijing.volces.com/api/v3", Needs: []string{"api_key"}, Docs: "https://www.volcengine.com/docs/82379", caps: thinking},
	{ID: "minimax", Name: "MiniMax", Kind: KindOpenAI, BaseURL: "https://api.minimaxi.com/v1", Needs: []string{"api_key"}, Docs: "https://platform.minimaxi.com/document", caps: hosted},
	{ID: "siliconflow", Name: "SiliconFlow", Kind: KindOpenAI, BaseURL: "https://api.siliconflow.cn/v1", Needs: []string{"api_key"}, Docs: "https://docs.siliconflow.cn", caps: engine.Caps{StreamUsage: true, Extras: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpEmbedding | engine.OpRerank}},
	{ID: "mistral", Name: "Mistral", Kind: KindOpenAI, BaseURL: "https://api.mistral.ai/v1", Needs: []string{"api_key"}, Docs: "https://docs.mistral.ai", caps: engine.Caps{Ops: engine.OpChat | engine.OpEmbedding | engine.OpModeration}},
	{ID: "groq", Name: "Groq", Kind: KindOpenAI, BaseURL: "https://api.groq.com/openai/v1", Needs: []string{"api_key"}, Docs: "https://console.groq.com/docs", caps: engine.Caps{StreamUsage: true, Ops: engine.OpChat}},
	{ID: "xai", Name: "xAI", Kind: KindOpenAI, BaseURL: "https://api.x.ai/v1", Needs: []string{"api_key"}, Docs: "https://docs.x.ai", caps: hosted},
	{ID: "openrouter", Name: "OpenRouter", Kind: KindOpenAI, BaseURL: "https://openrouter.ai/api/v1", Needs: []string{"api_key"}, Docs: "https://openrouter.ai/docs", caps: engine.Caps{StreamUsage: true, Extras: true, Ops: engine.OpChat | engine.OpCompletion | engine.OpEmbedding}},
	{ID: "together", Name: "Together", Kind: KindOpenAI, BaseURL: "https://api.together.xyz/v1", Needs: []string{"api_key"}, Docs: "https://docs.together.ai", caps: own},
	{ID: "jina", Name: "Jina", Kind: KindOpenAI, BaseURL: "https://api.jina.ai/v1", Needs: []string{"api_key"}, Docs: "https://jina.ai/reranker", caps: rankers},
	{ID: "cohere", Name: "Cohere (rerank)", Kind: KindOpenAI, BaseURL: "https://api.cohere.com/v2", Needs: []string{"api_key"}, Docs: "https://docs.cohere.com/reference/rerank", caps: engine.Caps{Ops: engine.OpRerank}},
	{ID: "vllm", Name: "vLLM", Kind: KindOpenAI, BaseURL: "http://127.0.0.1:8000/v1", Needs: []string{"base_url"}, Docs: "https://docs.vllm.ai", caps: counting},
	{ID: "sglang", Name: "SGLang", Kind: KindOpenAI, BaseURL: "http://127.0.0.1:30000/v1", Needs: []string{"base_url"}, Docs: "https://docs.sglang.ai", caps: own},
	{ID: "llamacpp", Name: "llama.cpp server", Kind: KindOpenAI, BaseURL: "http://127.0.0.1:8080/v1", Needs: []string{"base_url"}, Docs: "https://github.com/ggml-org/llama.cpp/tree/master/tools/server", caps: own},
	{ID: "ollama", Name: "Ollama", Kind: KindOpenAI, BaseURL: "http://127.0.0.1:11434/v1", Needs: []string{"base_url"}, Docs: "https://docs.ollama.com/openai", caps: hosted},
	{ID: "lmstudio", Name: "LM Studio", Kind: KindOpenAI, BaseURL: "http://127.0.0.1:1234/v1", Needs: []string{"base_url"}, Docs: "https://lmstudio.ai/docs", caps: hosted},
	{ID: "custom", Name: "Any OpenAI-compatible server", Kind: KindOpenAI, BaseURL: "https://HOST/v1", Needs: []string{"base_url"}, caps: engine.Caps{StreamUsage: true, Ops: anyOp}},
}

// Presets lists the known upstreams.
func Presets() []Preset { return presets }

func presetByID(id string) (Preset, bool) {
	for _, p := range presets {
		if p.ID == id {
			return p, true
		}
	}
	return Preset{}, false
}

// guessPreset finds the preset of an address by its host. Addresses of one's own machine tell nothing: any server may listen there.
func guessPreset(kind, base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	for _, p := range presets {
		if p.Kind != kind || !strings.HasPrefix(p.BaseURL, "https://") {
			continue
		}
		if own, err := url.Parse(p.BaseURL); err == nil && own.Hostname() == host {
			return p.ID
		}
	}
	return ""
}

// capsOf is what is known of a provider's upstream.
func capsOf(p *Provider) engine.Caps {
	if known, ok := presetByID(p.Preset); ok && known.Kind == p.Kind {
		return known.caps
	}
	custom, _ := presetByID("custom")
	return custom.caps
}
