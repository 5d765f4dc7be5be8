package dialect

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var plainOptions = Options{Model: "up", Public: "pub", ID: "1", Created: 1_700_000_000, StreamUsage: true, AskedUsage: true, Thoughts: true}

func translator(t *testing.T, client, upstream Form, o Options) Translator {
	t.Helper()
	tr, err := New(client, upstream, o)
	require.NoError(t, err)
	require.NotNil(t, tr)
	return tr
}

// ask translates a request and compares it as JSON.
func ask(t *testing.T, client, upstream Form, body, want string) Translator {
	t.Helper()
	tr := translator(t, client, upstream, plainOptions)
	got, err := tr.Request(nil, []byte(body))
	require.NoError(t, err)
	require.JSONEq(t, want, string(got))
	return tr
}

// play feeds the data of events and returns what the client gets: the names and data of events, one a line.
func play(t *testing.T, tr Translator, events ...string) []string {
	t.Helper()
	var out []byte
	var err error
	for _, e := range events {
		if out, err = tr.Event(out, []byte(e)); err != nil {
			t.Fatalf("event %s: %v", e, err)
		}
	}
	out, err = tr.Close(out)
	require.NoError(t, err)
	again, err := tr.Close(nil)
	require.NoError(t, err)
	require.Empty(t, again, "it is closed once")
	return lines(t, out)
}

func lines(t *testing.T, out []byte) []string {
	t.Helper()
	text := string(out)
	if text == "" {
		return nil
	}
	require.True(t, strings.HasSuffix(text, "\n\n"), "whole events only: %q", text)
	var list []string
	for e := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		name := ""
		for line := range strings.SplitSeq(e, "\n") {
			switch {
			case strings.HasPrefix(line, "event: "):
				name = line[7:] + " "
			case strings.HasPrefix(line, "data: "):
				data := line[6:]
				require.True(t, data == doneMark || json.Valid([]byte(data)), data)
				list = append(list, name+data)
			default:
				t.Fatalf("line %q", line)
			}
		}
	}
	return list
}

func TestChatRequestToMessages(t *testing.T) {
	t.Parallel()
	tr := ask(t, Chat, Messages, `{"model":"pub","messages":[
		{"role":"system","content":"Be brief."},{"role":"developer","content":[{"type":"text","text":"Use tools."}]},
		{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}},{"type":"image_url","image_url":{"url":"https://x/y.png","detail":"low"}}]},
		{"role":"assistant","content":null,"reasoning_content":"Hm.","thinking_blocks":[{"type":"thinking","thinking":"Hm.","signature":"sig"}],"tool_calls":[{"id":"a","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}},{"id":"b","type":"function","function":{"name":"look","arguments":"not json"}}]},
		{"role":"tool","tool_call_id":"a","content":"a cat"},{"role":"tool","tool_call_id":"b","content":[{"type":"text","text":"a dog"}]},
		{"role":"user","content":"So?"}],
		"max_tokens":100,"temperature":1.5,"top_p":0.9,"top_k":5,"stop":"END","seed":7,"frequency_penalty":0,"user":"u1","stream":true,"stream_options":{"include_usage":true},"metadata":{"a":"b"},
		"tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object","properties":{"at":{"type":"integer"}}},"strict":true}},{"type":"function","function":{"name":"stop"}}],
		"tool_choice":{"type":"function","function":{"name":"look"}},"parallel_tool_calls":false}`,
		`{"model":"up","max_tokens":100,"temperature":1,"top_p":0.9,"top_k":5,"stop_sequences":["END"],"stream":true,"metadata":{"user_id":"u1"},
		"system":[{"type":"text","text":"Be brief."},{"type":"text","text":"Use tools."}],
		"messages":[
		{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}},{"type":"image","source":{"type":"url","url":"https://x/y.png"}}]},
		{"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"sig"},{"type":"tool_use","id":"a","name":"look","input":{"at":1}},{"type":"tool_use","id":"b","name":"look","input":{"_raw":"not json"}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"a cat"},{"type":"tool_result","tool_use_id":"b","content":"a dog"},{"type":"text","text":"So?"}]}],
		"tools":[{"name":"look","description":"Looks.","input_schema":{"type":"object","properties":{"at":{"type":"integer"}}}},{"name":"stop","input_schema":{"type":"object","properties":{}}}],
		"tool_choice":{"type":"tool","name":"look","disable_parallel_tool_use":true}}`)
	require.ElementsMatch(t, []string{"seed", "temperature", "metadata"}, tr.Seen().Dropped)

	ask(t, Chat, Messages, `{"messages":[{"role":"user","content":"x"}],"reasoning_effort":"low","temperature":0.5,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}}`,
		`{"model":"up","max_tokens":10240,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"thinking":{"type":"enabled","budget_tokens":2048},"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}}`)

	ask(t, Chat, Messages, `{"messages":[{"role":"user","content":"x"}],"reasoning_effort":"high","max_completion_tokens":4000}`, `{"model":"up","max_tokens":4000,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"thinking":{"type":"enabled","budget_tokens":3000}}`)
	tr = ask(t, Chat, Messages, `{"messages":[{"role":"user","content":"x"}],"reasoning_effort":"high","max_tokens":1000}`, `{"model":"up","max_tokens":1000,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`)
	require.Equal(t, []string{"reasoning_effort"}, tr.Seen().Dropped)

	o := plainOptions
	half := 0.5
	o.MaxTokens, o.Temperature = 33, &half
	tr = translator(t, Chat, Messages, o)
	got, err := tr.Request(nil, []byte(`{"messages":[{"role":"user","content":"x"}]}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"model":"up","max_tokens":33,"temperature":0.5,"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`, string(got))
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	const hi = `"messages":[{"role":"user","content":"x"}]`
	for _, tc := range []struct {
		client, upstream Form
		body, param      string
		demand           bool // the upstream cannot; else the client is wrong
	}{
		{Chat, Messages, `{` + hi + `,"n":2}`, "n", true},
		{Chat, Messages, `{` + hi + `,"logprobs":true}`, "logprobs", true},
		{Chat, Messages, `{` + hi + `,"response_format":{"type":"json_object"}}`, "response_format", true},
		{Chat, Messages, `{` + hi + `,"functions":[{}]}`, "functions", true},
		{Chat, Messages, `{` + hi + `,"something_new":1}`, "something_new", true},
		{Chat, Messages, `{` + hi + `,"modalities":["audio"]}`, "modalities", true},
		{Chat, Messages, `{` + hi + `,"tools":[{"type":"custom"}]}`, "tools[0]", true},
		{Chat, Messages, `{` + hi + `,"tool_choice":"maybe"}`, "tool_choice", false},
		{Chat, Messages, `{` + hi + `,"reasoning_effort":"huge"}`, "reasoning_effort", false},
		{Chat, Messages, `{"messages":[]}`, "messages", false},
		{Chat, Messages, `{"messages":[{"role":"system","content":"x"}]}`, "messages", false},
		{Chat, Messages, `{"messages":[{"role":"owner","content":"x"}]}`, "messages[0].role", false},
		{Chat, Messages, `{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]}`, "messages[0].content[0]", true},
		{Chat, Messages, `{"messages":[{"role":"user","content":[{"type":5}]}]}`, "messages[0].content[0].type", false},
		{Messages, Chat, `{` + hi + `}`, "max_tokens", false},
		{Messages, Chat, `{"max_tokens":1,"messages":[]}`, "messages", false},
		{Messages, Chat, `{"max_tokens":1,` + hi + `,"tools":[{"type":"web_search_20250305","name":"web_search"}]}`, "tools[0]", true},
		{Messages, Chat, `{"max_tokens":1,` + hi + `,"mcp_servers":[{"url":"x"}]}`, "mcp_servers", true},
		{Messages, Chat, `{"max_tokens":1,"messages":[{"role":"user","content":[{"type":"container_upload"}]}]}`, "messages[0].content[0]", true},
		{Messages, Chat, `{"max_tokens":1,"messages":[{"role":"user","content":5}]}`, "messages[0].content", false},
		{Responses, Chat, `{"input":"x","previous_response_id":"resp_1"}`, "previous_response_id", true},
		{Responses, Chat, `{"input":"x","store":true}`, "store", true},
		{Responses, Chat, `{"input":"x","background":true}`, "background", true},
		{Responses, Chat, `{"input":"x","conversation":"c"}`, "conversation", true},
		{Responses, Chat, `{"input":"x","tools":[{"type":"web_search"}]}`, "tools[0]", true},
		{Responses, Chat, `{"input":[{"type":"item_reference","id":"x"}]}`, "input[0]", true},
		{Responses, Chat, `{}`, "input", false},
		{Responses, Chat, `{"input":7}`, "input", false},
		{Chat, Generate, `{` + hi + `,"n":2}`, "n", true},
		{Chat, Generate, `{"messages":[{"role":"tool","tool_call_id":"none","content":"x"}]}`, "messages[0].tool_call_id", false},
		{Rerank, RerankUpstream, `{"query":"q","documents":[]}`, "documents", false},
		{Rerank, RerankUpstream, `{"documents":["a"]}`, "query", false},
		{Rerank, RerankUpstream, `{"query":"q","documents":[{"title":"a"}]}`, "documents[0]", false},
		{RerankCohere, RerankUpstream, `{"query":"q","documents":[{"text":"a"}]}`, "documents[0]", false},
		{Embeddings, EmbedContents, `{"input":[1,2]}`, "input", false},
		{Embeddings, EmbedContents, `{"input":""}`, "input", false},
	} {
		tr := translator(t, tc.client, tc.upstream, plainOptions)
		_, err := tr.Request(nil, []byte(tc.body))
		require.Error(t, err, tc.body)
		u, demand := errors.AsType[*Unsupported](err)
		require.Equal(t, tc.demand, demand, "%s: %v", tc.body, err)
		if demand {
			require.Equal(t, tc.param, u.Param, tc.body)
			continue
		}
		f, ok := errors.AsType[*FieldError](err)
		require.True(t, ok, "%s: %v", tc.body, err)
		require.Equal(t, tc.param, f.Param, "%s: %v", tc.body, err)
	}
	_, err := New(Completion, Messages, plainOptions)
	require.ErrorIs(t, err, ErrNoTranslation)
	tr, err := New(Chat, Chat, plainOptions)
	require.NoError(t, err)
	require.Nil(t, tr)
}

func TestMessagesAnswerToChat(t *testing.T) {
	t.Parallel()
	tr := translator(t, Chat, Messages, plainOptions)
	got, err := tr.Response(nil, []byte(`{"id":"msg_up","type":"message","role":"assistant","model":"up","content":[{"type":"thinking","thinking":"Hm.","signature":"sig"},{"type":"text","text":"Hello <b>"},{"type":"tool_use","id":"toolu_1","name":"look","input":{"at":1}}],
		"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":5,"cache_read_input_tokens":20,"output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"pub","choices":[{"index":0,"message":{"role":"assistant","content":"Hello <b>","refusal":null,"reasoning_content":"Hm.",
		"thinking_blocks":[{"type":"thinking","thinking":"Hm.","signature":"sig"}],"tool_calls":[{"id":"toolu_1","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],
		"usage":{"prompt_tokens":35,"completion_tokens":9,"total_tokens":44,"prompt_tokens_details":{"cached_tokens":20,"cache_write_tokens":5},"completion_tokens_details":{"reasoning_tokens":4}}}`, string(got))
	require.Contains(t, string(got), "<b>", "texts are not escaped")
	require.Equal(t, Tokens{Told: true, Fresh: 10, CacheRead: 20, CacheWrite: 5, Text: 5, Reasoning: 4}, tr.Seen().Usage)
	for stop, finish := range map[string]string{"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "content_filter", "pause_turn": "stop", "model_context_window_exceeded": "length"} {
		got, err := translator(t, Chat, Messages, plainOptions).Response(nil, []byte(`{"type":"message","content":[],"stop_reason":"`+stop+`"}`))
		require.NoError(t, err)
		require.Contains(t, string(got), `"finish_reason":"`+finish+`"`)
	}
	_, err = tr.Response(nil, []byte(`{"type":"error","error":{"type":"overloaded_error","message":"busy"}}`))
	require.Error(t, err)
	require.Contains(t, string(tr.Seen().Failed), "busy")
}

// anthropicStream is a stream as Anthropic's documents show it, with thoughts and a call.
var anthropicStream = []string{
	`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"up","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_read_input_tokens":3,"output_tokens":1}}}`,
	`{"type":"ping"}`,
	`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me see."}}`,
	`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}`,
	`{"type":"content_block_stop","index":0}`,
	`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
	`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Okay"}}`,
	`{"type":"content_block_stop","index":1}`,
	`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}}`,
	`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}`,
	`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"at\": 1}"}}`,
	`{"type":"content_block_stop","index":2}`,
	`{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":15,"output_tokens_details":{"thinking_tokens":6}}}`,
	`{"type":"message_stop"}`,
}

func TestMessagesStreamToChat(t *testing.T) {
	t.Parallel()
	tr := translator(t, Chat, Messages, plainOptions)
	got := play(t, tr, anthropicStream...)
	chunk := func(delta, finish string) string {
		return `{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"pub","choices":[{"index":0,"delta":` + delta + `,"logprobs":null,"finish_reason":` + finish + `}]}`
	}
	require.Equal(t, []string{
		chunk(`{"role":"assistant","content":""}`, "null"),
		chunk(`{"reasoning_content":"Let me see."}`, "null"),
		chunk(`{"thinking_blocks":[{"type":"thinking","thinking":"Let me see.","signature":"c2ln"}]}`, "null"),
		chunk(`{"content":"Okay"}`, "null"),
		chunk(`{"tool_calls":[{"index":0,"id":"toolu_1","type":"function","function":{"name":"look","arguments":""}}]}`, "null"),
		chunk(`{"tool_calls":[{"index":0,"function":{"arguments":""}}]}`, "null"),
		chunk(`{"tool_calls":[{"index":0,"function":{"arguments":"{\"at\": 1}"}}]}`, "null"),
		chunk(`{}`, `"tool_calls"`),
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"pub","choices":[],"usage":{"prompt_tokens":28,"completion_tokens":15,"total_tokens":43,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":6}}}`,
		doneMark,
	}, got)
	s := tr.Seen()
	require.Equal(t, Tokens{Told: true, Fresh: 25, CacheRead: 3, Text: 9, Reasoning: 6}, s.Usage)
	require.True(t, s.Done && s.Finished && s.Final)
	require.Equal(t, int64(4), s.Events)

	o := plainOptions
	o.AskedUsage = false
	for _, line := range play(t, translator(t, Chat, Messages, o), anthropicStream...) {
		require.NotContains(t, line, `"usage"`)
	}
	tr = translator(t, Chat, Messages, plainOptions)
	out, err := tr.Event(nil, []byte(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`))
	require.NoError(t, err)
	require.Empty(t, out)
	require.Contains(t, string(tr.Seen().Failed), "Overloaded")
}

func TestMessagesRequestToChat(t *testing.T) {
	t.Parallel()
	tr := ask(t, Messages, Chat, `{"model":"pub","max_tokens":64,"system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}},{"type":"text","text":"Use tools."}],"messages":[
		{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}},{"type":"document","title":"a.pdf","source":{"type":"base64","media_type":"application/pdf","data":"REVG"}}]},
		{"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"s"},{"type":"text","text":"I look."},{"type":"tool_use","id":"a","name":"look","input":{"at":1}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"none"},{"type":"image","source":{"type":"url","url":"https://x/y.png"}}],"is_error":true},{"type":"text","text":"So?"}]}],
		"stop_sequences":["END"],"temperature":0.3,"top_p":0.5,"top_k":9,"stream":true,"metadata":{"user_id":"u1"},"thinking":{"type":"enabled","budget_tokens":2000},
		"tools":[{"name":"look","description":"Looks.","input_schema":{"type":"object"}},{"type":"custom","name":"go","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},"service_tier":"auto"}`,
		`{"model":"up","max_tokens":64,"stop":["END"],"temperature":0.3,"top_p":0.5,"stream":true,"stream_options":{"include_usage":true},"user":"u1","reasoning_effort":"low",
		"messages":[{"role":"system","content":"Be brief.\n\nUse tools."},
		{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,REVG"}}]},
		{"role":"assistant","content":"I look.","reasoning_content":"Hm.","tool_calls":[{"id":"a","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}}]},
		{"role":"tool","tool_call_id":"a","content":"Error: none"},
		{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"text","text":"So?"}]}],
		"tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object"}}},{"type":"function","function":{"name":"go","parameters":{"type":"object"}}}],
		"tool_choice":"required","parallel_tool_calls":false}`)
	require.ElementsMatch(t, []string{"top_k", "service_tier"}, tr.Seen().Dropped)

	o := plainOptions
	o.MaxCompletion, o.Extras, o.Thoughts = true, true, false
	tr = translator(t, Messages, Chat, o)
	got, err := tr.Request(nil, []byte(`{"max_tokens":5,"top_k":3,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":""},{"type":"text","text":"y"}]},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],
		"output_config":{"effort":"high","format":{"type":"json_schema","schema":{"type":"object"}}},"tool_choice":{"type":"auto"},"thinking":{"type":"disabled"}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"model":"up","max_completion_tokens":5,"top_k":3,"reasoning_effort":"high","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":"a\n\nb"}],
		"response_format":{"type":"json_schema","json_schema":{"name":"output","schema":{"type":"object"},"strict":true}}}`, string(got))
}

func TestChatAnswerToMessages(t *testing.T) {
	t.Parallel()
	tr := translator(t, Messages, Chat, plainOptions)
	got, err := tr.Response(nil, []byte(`{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","reasoning_content":"Hm.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}},{"type":"function","function":{"name":"go","arguments":""}}]},"finish_reason":"tool_calls"}],
		"usage":{"prompt_tokens":35,"completion_tokens":9,"total_tokens":44,"prompt_tokens_details":{"cached_tokens":20},"completion_tokens_details":{"reasoning_tokens":4}}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"msg_1","type":"message","role":"assistant","model":"pub","content":[{"type":"thinking","thinking":"Hm.","signature":""},{"type":"text","text":"Hello"},{"type":"tool_use","id":"call_1","name":"look","input":{"at":1}},{"type":"tool_use","id":"call_1_1","name":"go","input":{}}],
		"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":15,"cache_creation_input_tokens":0,"cache_read_input_tokens":20,"output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}}`, string(got))
	for finish, stop := range map[string]string{`"stop"`: "end_turn", `"length"`: "max_tokens", `"content_filter"`: "refusal", `"stop","stop_reason":"END"`: "stop_sequence"} {
		got, err := translator(t, Messages, Chat, plainOptions).Response(nil, []byte(`{"choices":[{"message":{"content":"a"},"finish_reason":`+finish+`}]}`))
		require.NoError(t, err)
		require.Contains(t, string(got), `"stop_reason":"`+stop+`"`)
	}
	_, err = tr.Response(nil, []byte(`{"object":"nothing"}`))
	require.Error(t, err)
}

// chatStream is a stream of a reasoning model that calls two tools.
var chatStream = []string{
	`{"id":"x","object":"chat.completion.chunk","model":"up","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`,
	`{"id":"x","choices":[{"index":0,"delta":{"reasoning_content":"Hm"},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{"reasoning_content":"."},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"look","arguments":""}}]},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"at\":"}}]},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"go","arguments":"{}"}}]},"finish_reason":null}]}`,
	`{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
	`{"id":"x","choices":[],"usage":{"prompt_tokens":35,"completion_tokens":9,"total_tokens":44,"prompt_tokens_details":{"cached_tokens":20},"completion_tokens_details":{"reasoning_tokens":2}}}`,
	doneMark,
}

func TestChatStreamToMessages(t *testing.T) {
	t.Parallel()
	tr := translator(t, Messages, Chat, plainOptions)
	require.Equal(t, []string{
		`message_start {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"pub","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}`,
		`content_block_start {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`content_block_delta {"type":"content_block_delta","index":0,"delta":{"thinking":"Hm","type":"thinking_delta"}}`,
		`content_block_delta {"type":"content_block_delta","index":0,"delta":{"thinking":".","type":"thinking_delta"}}`,
		`content_block_stop {"type":"content_block_stop","index":0}`,
		`content_block_start {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}`,
		`content_block_delta {"type":"content_block_delta","index":1,"delta":{"text":"Hel","type":"text_delta"}}`,
		`content_block_delta {"type":"content_block_delta","index":1,"delta":{"text":"lo","type":"text_delta"}}`,
		`content_block_stop {"type":"content_block_stop","index":1}`,
		`content_block_start {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"call_a","name":"look","input":{}}}`,
		`content_block_delta {"type":"content_block_delta","index":2,"delta":{"partial_json":"{\"at\":","type":"input_json_delta"}}`,
		`content_block_delta {"type":"content_block_delta","index":2,"delta":{"partial_json":"1}","type":"input_json_delta"}}`,
		`content_block_stop {"type":"content_block_stop","index":2}`,
		`content_block_start {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"call_b","name":"go","input":{}}}`,
		`content_block_delta {"type":"content_block_delta","index":3,"delta":{"partial_json":"{}","type":"input_json_delta"}}`,
		`content_block_stop {"type":"content_block_stop","index":3}`,
		`message_delta {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":15,"cache_creation_input_tokens":0,"cache_read_input_tokens":20,"output_tokens":9,"output_tokens_details":{"thinking_tokens":2}}}`,
		`message_stop {"type":"message_stop"}`,
	}, play(t, tr, chatStream...))
	require.Equal(t, Tokens{Told: true, Fresh: 15, CacheRead: 20, Text: 7, Reasoning: 2}, tr.Seen().Usage)
	require.True(t, tr.Seen().Done && tr.Seen().Final)

	got := play(t, translator(t, Messages, Chat, plainOptions), `{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"length"}]}`) // no end mark
	require.Contains(t, got[len(got)-2], `"stop_reason":"max_tokens"`)
	tr = translator(t, Messages, Chat, plainOptions)
	_, err := tr.Event(nil, []byte(`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f"}},{"index":1,"id":"b","function":{"name":"g"}},{"index":0,"function":{"arguments":"{}"}}]}}]}`))
	require.ErrorIs(t, err, errCallOrder)
	_, err = tr.Event(nil, []byte(`{"choices":`))
	require.Error(t, err)
}

// A conversation that goes through both translations says the same.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	body := `{"model":"up","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":"I look.","tool_calls":[{"id":"a","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}}]},{"role":"tool","tool_call_id":"a","content":"none"},{"role":"user","content":[{"type":"text","text":"So?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}]}],"max_tokens":7,"temperature":0.5,"stop":["END"],"tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object"}}}],"tool_choice":"required"}`
	there, err := translator(t, Chat, Messages, plainOptions).Request(nil, []byte(body))
	require.NoError(t, err)
	back, err := translator(t, Messages, Chat, plainOptions).Request(nil, there)
	require.NoError(t, err)
	require.JSONEq(t, body, string(back))

	var stream []string
	for _, line := range play(t, translator(t, Messages, Chat, plainOptions), chatStream...) {
		_, data, _ := strings.Cut(line, " ")
		stream = append(stream, data)
	}
	tr := translator(t, Chat, Messages, plainOptions)
	var text, thought, args strings.Builder
	for _, line := range play(t, tr, stream...) {
		var c chatAnswerIn
		if line != doneMark {
			require.NoError(t, json.Unmarshal([]byte(line), &c))
		}
		for _, ch := range c.Choices {
			text.WriteString(ch.Delta.text())
			thought.WriteString(ch.Delta.thought())
			for _, call := range ch.Delta.ToolCalls {
				args.WriteString(call.Function.Name + call.Function.Arguments)
			}
		}
	}
	require.Equal(t, []string{"Hello", "Hm.", `look{"at":1}go{}`}, []string{text.String(), thought.String(), args.String()})
	require.Equal(t, Tokens{Told: true, Fresh: 15, CacheRead: 20, Text: 7, Reasoning: 2}, tr.Seen().Usage)
}
