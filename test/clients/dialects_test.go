package clients

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// agents makes providers of both dialects with their models and returns the environment that names them.
func (b *binary) agents() []string {
	b.t.Helper()
	up := newUpstream(b.t)
	provider := func(name, kind, base, key string) string {
		var p struct{ ID string }
		b.do("POST", "/inference/providers", map[string]string{"name": name, "kind": kind, "base_url": up + base, "api_key": key}, &p)
		var test struct {
			OK    bool `json:"ok"`
			Error any  `json:"error"`
		}
		b.do("POST", "/inference/providers/"+p.ID+"/test", nil, &test)
		require.True(b.t, test.OK, "%v", test.Error)
		return p.ID
	}
	oai, ant := provider("oai", "openai", "/oai/v1", "sk-oai"), provider("ant", "anthropic", "/ant/v1", "sk-ant")
	for name, d := range map[string][2]string{"agent-oai": {oai, "agent"}, "agent-ant": {ant, "agent"}, "embed": {oai, "embed"}, "moderation": {oai, "moderation"}, "rerank": {oai, "rerank"}} {
		b.do("POST", "/inference/deployments", map[string]string{"name": name, "provider": d[0], "upstream_model": d[1]}, nil)
		require.Eventually(b.t, func() bool {
			var v struct{ Status string }
			b.do("GET", "/inference/deployments/"+name, nil, &v)
			return v.Status == "ready"
		}, time.Minute, 50*time.Millisecond, "%s is not ready", name)
	}
	return []string{"AGENTS=agent-oai,agent-ant", "EMBED=embed", "MODERATION=moderation", "RERANK=rerank", "BASE_URL=" + b.url, "ANTHROPIC_BASE_URL=" + b.url, "ANTHROPIC_API_KEY=" + b.start.Key}
}

func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("MAAS_PYTHON")
	if p == "" {
		missing(t, "MAAS_PYTHON, an interpreter with the stock clients (sh scripts/clients.sh)")
	}
	return p
}

func node(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "node")
	}
	for _, p := range []string{"openai", "@anthropic-ai/sdk"} {
		if _, err := os.Stat("node/node_modules/" + p); err != nil {
			missing(t, "the package "+p+" for Node (sh scripts/clients.sh)")
		}
	}
}

func TestAnthropicPython(t *testing.T) {
	p := python(t)
	b := serve(t)
	b.run("python", b.agents(), p, "anthropic_client.py")
	// What agents did is in the usage, to the token: each loop of three turns has 3 x 40 prompt tokens, of which 90 were cached, on both providers, streamed and whole.
	require.Eventually(t, func() bool {
		var u struct {
			Items []struct {
				Model      string `json:"model"`
				Requests   int64  `json:"requests"`
				Prompt     int64  `json:"prompt_tokens"`
				Cached     int64  `json:"cached_tokens"`
				Completion int64  `json:"completion_tokens"`
			}
		}
		now := time.Now().UTC()
		b.do("GET", "/usage?bucket=1d&group_by=model&from="+now.Add(-time.Hour).Format(time.RFC3339)+"&to="+now.Add(time.Hour).Format(time.RFC3339), nil, &u)
		seen := 0
		for _, i := range u.Items {
			if i.Model == "agent-oai" || i.Model == "agent-ant" {
				if i.Requests < 7 { // six turns and a count of tokens, which is free
					return false
				}
				require.Equal(t, []int64{7, 6 * promptTokens, 6 * cachedTokens, 2 * int64(steps[0].tokens()+steps[1].tokens()+steps[2].tokens())}, []int64{i.Requests, i.Prompt, i.Cached, i.Completion}, i.Model)
				seen++
			}
		}
		return seen == 2
	}, 30*time.Second, 200*time.Millisecond, "usage does not show the loops")
}

func TestAnthropicNode(t *testing.T) {
	node(t)
	b := serve(t)
	b.run("node", b.agents(), "node", "anthropic_client.mjs")
}

func TestOpenAIMorePython(t *testing.T) {
	p := python(t)
	b := serve(t)
	b.run("python", b.agents(), p, "openai_more.py")
}

func TestOpenAIMoreNode(t *testing.T) {
	node(t)
	b := serve(t)
	b.run("node", b.agents(), "node", "openai_more.mjs")
}

func TestOpenAIGo(t *testing.T) {
	gocmd, err := exec.LookPath("go")
	if err != nil {
		missing(t, "go")
	}
	if out, err := exec.CommandContext(t.Context(), gocmd, "-C", "go", "mod", "download").CombinedOutput(); err != nil {
		missing(t, "the modules of test/clients/go: "+string(out))
	}
	b := serve(t)
	b.run("go", append(b.agents(), "GOFLAGS=-mod=readonly"), gocmd, "run", ".")
}

// litellm takes minutes to install and brings 380 MB: it runs where its interpreter is named (MAAS_TEST_LITELLM=1 sh scripts/clients.sh).
func TestLiteLLM(t *testing.T) {
	p := os.Getenv("MAAS_LITELLM")
	if p == "" {
		t.Skip("SKIP: MAAS_LITELLM names no interpreter with litellm (MAAS_TEST_LITELLM=1 sh scripts/clients.sh)")
	}
	b := serve(t)
	b.run("python", b.agents(), p, "litellm_client.py")
}
