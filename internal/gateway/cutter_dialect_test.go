package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/dialect"
)

// anthropicText is a stream of Anthropic's form as it comes over the wire.
var anthropicText = func() string {
	var s strings.Builder
	for _, e := range [][2]string{
		{"message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"up","stop_reason":null,"usage":{"input_tokens":25,"cache_read_input_tokens":3,"cache_creation_input_tokens":2,"output_tokens":1}}}`},
		{"ping", `{"type":"ping"}`},
		{"content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`},
		{"content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello \"usage\""}}`},
		{"content_block_stop", `{"type":"content_block_stop","index":0}`},
		{"content_block_start", `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}}`},
		{"content_block_delta", `{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"error\":{}}"}}`},
		{"content_block_stop", `{"type":"content_block_stop","index":1}`},
		{"message_delta", `{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":15}}`},
		{"message_stop", `{"type":"message_stop"}`},
	} {
		fmt.Fprintf(&s, "event: %s\ndata: %s\n\n", e[0], e[1])
	}
	return s.String()
}()

// Wherever the pieces of a stream are cut, the client gets the same bytes and the same usage is read.
func TestDialectsCutAnywhere(t *testing.T) {
	t.Parallel()
	want := tokens{told: true, inFresh: 25, inCache: 3, inWrite: 2, outText: 15}
	for _, text := range []string{anthropicText, strings.ReplaceAll(anthropicText, "\n", "\r\n")} {
		for _, client := range []dialect.Form{dialect.Messages, dialect.Chat, dialect.Responses} {
			run := func(cuts ...int) string {
				var c cutter
				c.reset(true, true, `"pub"`)
				c.messages = client == dialect.Messages
				tr, err := dialect.New(client, dialect.Messages, dialect.Options{Model: "up", Public: "pub", ID: "1", AskedUsage: true})
				require.NoError(t, err)
				if tr != nil {
					_, err = tr.Request(nil, []byte(map[dialect.Form]string{dialect.Chat: `{"messages":[{"role":"user","content":"x"}]}`, dialect.Responses: `{"input":"x"}`}[client]))
					require.NoError(t, err)
					c.tr = tr
				}
				from := 0
				for _, at := range append(cuts, len(text)) {
					require.NoError(t, c.feed([]byte(text[from:at])))
					from = at
				}
				require.Equal(t, want, c.usage)
				require.True(t, c.done && c.finished && c.final && !c.counted)
				require.Equal(t, map[dialect.Form]int64{dialect.Messages: 2, dialect.Chat: 3, dialect.Responses: 3}[client], c.events)
				return string(c.out)
			}
			whole := run()
			require.Contains(t, whole, `"pub"`)
			require.NotContains(t, whole, `"up"`)
			if client == dialect.Messages {
				require.Equal(t, strings.Replace(text, `"up"`, `"pub"`, 1), whole)
			}
			for i := 1; i < len(text); i += 7 {
				require.Equal(t, whole, run(i), "cut at %d", i)
				require.Equal(t, whole, run(i, min(i+3, len(text))), "cut at %d and behind", i)
			}
		}
	}
}

func BenchmarkTranslatedEvent(b *testing.B) {
	const event = `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"up","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}`
	tr, err := dialect.New(dialect.Messages, dialect.Chat, dialect.Options{Model: "up", Public: "pub", ID: "1"})
	require.NoError(b, err)
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		if out, err = tr.Event(out[:0], []byte(event)); err != nil {
			b.Fatal(err)
		}
	}
}
