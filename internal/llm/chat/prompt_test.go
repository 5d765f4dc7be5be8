package chat

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/gguf"
	"maas/internal/llm/token"
	"maas/internal/maastest/oracle"
)

// TestPromptIDs: the parts of a prompt give the ids of the prompt as one text, unless a message holds the text of a control token; then the message stays text.
func TestPromptIDs(t *testing.T) {
	t.Parallel()
	models := filepath.Join(oracle.LlamaCPP(t), "models")
	for template, vocab := range map[string]string{
		"Qwen-Qwen3-0.6B.jinja": "qwen2", "meta-llama-Llama-3.1-8B-Instruct.jinja": "llama-bpe", "microsoft-Phi-3.5-mini-instruct.jinja": "phi-3", "mistralai-Mistral-Nemo-Instruct-2407.jinja": "llama-spm",
	} {
		f, err := gguf.Open(filepath.Join(models, "ggml-vocab-"+vocab+".gguf"))
		require.NoError(t, err)
		tok, err := token.FromGGUF(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		src, err := os.ReadFile(filepath.Join(models, "templates", template))
		require.NoError(t, err)
		tmpl, err := Compile(string(src), Limits{})
		require.NoError(t, err)
		for name, conv := range conversations(t) {
			in := conv.input()
			in.BOS, in.EOS = tok.Text(tok.BOS()), tok.Text(tok.EOS())
			parts, err := tmpl.Render(in)
			if err != nil {
				require.ErrorIs(t, err, ErrRaised, name)
				continue
			}
			text := joinParts(parts)
			safe, err := tok.Encode(nil, parts, tok.Defaults())
			require.NoError(t, err)
			blind, err := tok.Encode(nil, []token.Part{{Text: text, Trusted: true}}, tok.Defaults())
			require.NoError(t, err)
			if name != "inject" {
				require.Equal(t, blind, safe, "%s %s", template, name)
				continue
			}
			var own []token.Part // what the template wrote
			for _, p := range parts {
				if p.Trusted {
					own = append(own, p)
				}
			}
			ids, err := tok.Encode(nil, own, tok.Defaults())
			require.NoError(t, err)
			require.Equal(t, controls(tok, ids), controls(tok, safe), "%s: the message added control tokens", template)
			if vocab == "qwen2" || vocab == "llama-spm" {
				require.NotEqual(t, controls(tok, blind), controls(tok, safe), "the message has none to add: the test shows nothing")
			}
		}
	}
}

func controls(tok *token.Tokenizer, ids []int32) []int32 {
	var out []int32
	for _, id := range ids {
		if tok.Kind(id) == token.Control {
			out = append(out, id)
		}
	}
	return out
}
