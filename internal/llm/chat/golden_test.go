package chat

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/llm/token"
	"maas/internal/maastest/oracle"
	"maas/internal/platform/fault"
)

// conversation is one entry of testdata/conversations.json.
type conversation struct {
	Messages            []Message                  `json:"messages"`
	Tools               []json.RawMessage          `json:"tools"`
	Documents           []json.RawMessage          `json:"documents"`
	AddGenerationPrompt *bool                      `json:"add_generation_prompt"`
	Kwargs              map[string]json.RawMessage `json:"kwargs"`
}

func (c conversation) input() Input {
	return Input{
		Messages: c.Messages, Tools: c.Tools, Documents: c.Documents, Kwargs: c.Kwargs, BOS: "<BOS>", EOS: "<EOS>",
		AddGenerationPrompt: c.AddGenerationPrompt == nil || *c.AddGenerationPrompt,
		Now:                 time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	}
}

func conversations(tb testing.TB) map[string]conversation {
	tb.Helper()
	raw, err := os.ReadFile("testdata/conversations.json")
	require.NoError(tb, err)
	var all map[string]conversation
	require.NoError(tb, json.Unmarshal(raw, &all))
	return all
}

func joinParts(parts []token.Part) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:16]
}

// TestGolden compares renderings of published templates, byte for byte, with those of Python's jinja2 (testdata/golden.py).
func TestGolden(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(oracle.LlamaCPP(t), "models", "templates")
	raw, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	var golden map[string]map[string]string
	require.NoError(t, json.Unmarshal(raw, &golden))
	convs := conversations(t)
	require.GreaterOrEqual(t, len(golden), 70)
	for name, want := range golden {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Equal(t, want["sha256"], short(string(src)), "another version of the template")
			tmpl, err := Compile(string(src), Limits{Time: 10 * time.Second})
			require.NoError(t, err)
			for c, conv := range convs {
				vars, err := conv.input().vars(shape{})
				require.NoError(t, err)
				parts, err := tmpl.render(vars, conv.input().Now)
				got := short(joinParts(parts))
				switch {
				case errors.Is(err, ErrRaised):
					got = "raised: " + fault.From(err).Text()
				case err != nil:
					got = "failed"
				}
				if got != want[c] {
					t.Errorf("%s: got %s, want %s (%v)", c, got, want[c], err)
				}
			}
		})
	}
}

// TestRenderAccepts: what clients send is rendered by nearly every published template, also where Python's renderer fails for the shape of the input.
func TestRenderAccepts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(oracle.LlamaCPP(t), "models", "templates")
	files, err := filepath.Glob(filepath.Join(dir, "*.jinja"))
	require.NoError(t, err)
	convs := conversations(t)
	// These want variables of their own (functions, datetime) or calls in a shape of their own.
	elsewhere := map[string]bool{"CohereForAI-c4ai-command-r-plus-tool_use.jinja": true, "fireworks-ai-llama-3-firefunction-v2.jinja": true}
	for _, file := range files {
		src, err := os.ReadFile(file)
		require.NoError(t, err)
		tmpl, err := Compile(string(src), Limits{Time: 10 * time.Second})
		require.NoError(t, err)
		for _, c := range []string{"single", "system", "turns", "parts", "parallel"} {
			parts, err := tmpl.Render(convs[c].input())
			if errors.Is(err, ErrRaised) {
				continue
			}
			name := filepath.Base(file) + " " + c
			if err != nil && !elsewhere[filepath.Base(file)] {
				t.Errorf("%s: %v", name, err)
			}
			if err != nil {
				continue
			}
			text := joinParts(parts)
			if c == "parts" {
				require.Contains(t, text, "First part.", name)
				require.Contains(t, text, "Second part.", name)
				require.NotContains(t, text, "'type'", name)
			}
		}
	}
}
