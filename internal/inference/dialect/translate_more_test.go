package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResponsesRequestToChat(t *testing.T) {
	t.Parallel()
	tr := ask(t, Responses, Chat, `{"model":"pub","instructions":"Be brief.","input":[
		{"role":"user","content":"Hi"},
		{"type":"message","role":"user","content":[{"type":"input_text","text":"What"},{"type":"input_image","image_url":"data:image/png;base64,QUJD","detail":"low"},{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,REVG"}]},
		{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm."}]},
		{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I look.","annotations":[]}]},
		{"type":"function_call","call_id":"a","name":"look","arguments":"{\"at\":1}"},{"type":"function_call","call_id":"b","name":"go","arguments":"{}"},
		{"type":"function_call_output","call_id":"a","output":"none"},{"type":"function_call_output","call_id":"b","output":[{"type":"input_text","text":"gone"}]},
		{"type":"message","role":"developer","content":"Now."}],
		"max_output_tokens":50,"temperature":0.5,"top_p":0.5,"stream":true,"store":false,"reasoning":{"effort":"low","summary":"auto"},"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true},"verbosity":"low"},
		"tools":[{"type":"function","name":"look","description":"Looks.","parameters":{"type":"object"},"strict":true}],"tool_choice":{"type":"function","name":"look"},"parallel_tool_calls":false,"truncation":"auto","include":["reasoning.encrypted_content"],"metadata":{"a":"b"},"user":"u1"}`,
		`{"model":"up","max_tokens":50,"temperature":0.5,"top_p":0.5,"stream":true,"stream_options":{"include_usage":true},"user":"u1","reasoning_effort":"low","messages":[
		{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},
		{"role":"user","content":[{"type":"text","text":"What"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD","detail":"low"}},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,REVG"}}]},
		{"role":"assistant","reasoning_content":"Hm.","content":"I look.","tool_calls":[{"id":"a","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}},{"id":"b","type":"function","function":{"name":"go","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"a","content":"none"},{"role":"tool","tool_call_id":"b","content":"gone"},{"role":"system","content":"Now."}],
		"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}},
		"tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object"},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"look"}},"parallel_tool_calls":false}`)
	require.ElementsMatch(t, []string{"truncation", "include", "metadata", "text.verbosity"}, tr.Seen().Dropped)
	ask(t, Responses, Chat, `{"input":"Hi"}`, `{"model":"up","messages":[{"role":"user","content":"Hi"}]}`)
}

func TestChatAnswerToResponses(t *testing.T) {
	t.Parallel()
	tr := ask(t, Responses, Chat, `{"input":"Hi","instructions":"Be brief.","temperature":0.5,"metadata":{"a":"b"}}`, `{"model":"up","temperature":0.5,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}`)
	got, err := tr.Response(nil, []byte(`{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello","reasoning_content":"Hm.","tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{}"}}]},"finish_reason":"length"}],
		"usage":{"prompt_tokens":35,"completion_tokens":9,"total_tokens":44,"prompt_tokens_details":{"cached_tokens":20},"completion_tokens_details":{"reasoning_tokens":4}}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"resp_1","object":"response","created_at":1700000000,"status":"incomplete","background":false,"error":null,"incomplete_details":{"reason":"max_output_tokens"},"instructions":"Be brief.","max_output_tokens":null,"model":"pub",
		"output":[{"type":"reasoning","id":"rs_1_0","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"Hm."}]},{"type":"message","id":"msg_1_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]},
		{"type":"function_call","id":"fc_1_2","status":"completed","call_id":"call_1","name":"look","arguments":"{}"}],
		"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":0.5,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled",
		"usage":{"input_tokens":35,"input_tokens_details":{"cached_tokens":20,"cache_write_tokens":0},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":44},"user":null,"metadata":{"a":"b"}}`, string(got))
}

func TestChatStreamToResponses(t *testing.T) {
	t.Parallel()
	tr := ask(t, Responses, Chat, `{"input":"Hi"}`, `{"model":"up","messages":[{"role":"user","content":"Hi"}]}`)
	got := play(t, tr, chatStream...)
	var kinds []string
	for i, line := range got {
		name, data, _ := strings.Cut(line, " ")
		var e struct {
			Type     string `json:"type"`
			Sequence int    `json:"sequence_number"`
			Response *struct {
				Status string           `json:"status"`
				Output []map[string]any `json:"output"`
				Usage  map[string]any   `json:"usage"`
			} `json:"response"`
			Delta string `json:"delta"`
		}
		require.NoError(t, json.Unmarshal([]byte(data), &e))
		require.Equal(t, name, e.Type)
		require.Equal(t, i, e.Sequence)
		kinds = append(kinds, strings.TrimPrefix(e.Type, "response.")+map[bool]string{true: " " + e.Delta}[e.Delta != ""])
		if i == len(got)-1 {
			require.Equal(t, "completed", e.Response.Status)
			require.Len(t, e.Response.Output, 4)
			require.Equal(t, `{"at":1}`, e.Response.Output[2]["arguments"])
			require.Equal(t, "call_b", e.Response.Output[3]["call_id"])
			require.InDelta(t, 44, e.Response.Usage["total_tokens"], 0)
		}
	}
	require.Equal(t, []string{
		"created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta Hm", "reasoning_text.delta .", "reasoning_text.done", "content_part.done", "output_item.done",
		"output_item.added", "content_part.added", "output_text.delta Hel", "output_text.delta lo", "output_text.done", "content_part.done", "output_item.done",
		"output_item.added", `function_call_arguments.delta {"at":`, "function_call_arguments.delta 1}", "function_call_arguments.done", "output_item.done",
		"output_item.added", "function_call_arguments.delta {}", "function_call_arguments.done", "output_item.done", "completed",
	}, kinds)
	empty := play(t, translator(t, Responses, Chat, plainOptions), `{"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}`)
	require.Contains(t, empty[len(empty)-1], `"status":"incomplete"`)
	require.Contains(t, empty[len(empty)-1], `"output_text"`, "an empty answer is an empty text")
}

func TestChatRequestToGemini(t *testing.T) {
	t.Parallel()
	const body = `{"model":"pub","messages":[
		{"role":"system","content":"Be brief."},
		{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}},{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"input_audio","input_audio":{"data":"R0hJ","format":"wav"}}]},
		{"role":"assistant","content":"I look.","tool_calls":[{"id":"a","type":"function","function":{"name":"look","arguments":"{\"at\":1}"},"extra_content":{"google":{"thought_signature":"c2ln"}}},{"id":"b","type":"function","function":{"name":"go","arguments":""}}]},
		{"role":"tool","tool_call_id":"a","content":"none"},{"role":"tool","tool_call_id":"b","content":"{\"ok\":true}"},{"role":"user","content":"So?"}],
		"max_completion_tokens":64,"temperature":1.5,"top_p":0.5,"top_k":9,"stop":["END"],"seed":7,"presence_penalty":0.5,"reasoning_effort":"low","response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}},
		"tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object"}}},{"type":"function","function":{"name":"go"}}],"tool_choice":{"type":"function","function":{"name":"look"}},"user":"u1"}`
	tr := ask(t, Chat, Generate, body, `{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[
		{"role":"user","parts":[{"text":"What is this?"},{"inlineData":{"mimeType":"image/png","data":"QUJD"}},{"fileData":{"fileUri":"https://x/y.png"}},{"inlineData":{"mimeType":"audio/wav","data":"R0hJ"}}]},
		{"role":"model","parts":[{"text":"I look."},{"functionCall":{"name":"look","args":{"at":1}},"thoughtSignature":"c2ln"},{"functionCall":{"name":"go","args":{}}}]},
		{"role":"user","parts":[{"functionResponse":{"name":"look","response":{"result":"none"}}},{"functionResponse":{"name":"go","response":{"ok":true}}},{"text":"So?"}]}],
		"tools":[{"functionDeclarations":[{"name":"look","description":"Looks.","parametersJsonSchema":{"type":"object"}},{"name":"go"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["look"]}},
		"generationConfig":{"maxOutputTokens":64,"temperature":1.5,"topP":0.5,"topK":9,"stopSequences":["END"],"seed":7,"presencePenalty":0.5,"responseMimeType":"application/json","responseJsonSchema":{"type":"object"},"thinkingConfig":{"includeThoughts":true,"thinkingBudget":2048}}}`)
	require.Equal(t, []string{"user"}, tr.Seen().Dropped)
	o := plainOptions
	o.Model = "gemini-3.1-pro"
	got, err := translator(t, Chat, Generate, o).Request(nil, []byte(strings.Replace(body, `,"extra_content":{"google":{"thought_signature":"c2ln"}}`, "", 1)))
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(got), skipSignature), "a call without a signature passes all the same")
}

func TestGeminiAnswerToChat(t *testing.T) {
	t.Parallel()
	tr := translator(t, Chat, Generate, plainOptions)
	got, err := tr.Response(nil, []byte(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true},{"text":"Hello"},{"functionCall":{"name":"look","args":{"at":1}},"thoughtSignature":"c2ln"}]},"finishReason":"STOP","index":0}],
		"usageMetadata":{"promptTokenCount":35,"cachedContentTokenCount":20,"candidatesTokenCount":5,"thoughtsTokenCount":4,"totalTokenCount":44},"modelVersion":"up"}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"pub","choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null,"reasoning_content":"Hm.",
		"tool_calls":[{"id":"call_1_0","type":"function","function":{"name":"look","arguments":"{\"at\":1}"},"extra_content":{"google":{"thought_signature":"c2ln"}}}]},"logprobs":null,"finish_reason":"tool_calls"}],
		"usage":{"prompt_tokens":35,"completion_tokens":9,"total_tokens":44,"prompt_tokens_details":{"cached_tokens":20},"completion_tokens_details":{"reasoning_tokens":4}}}`, string(got))
	require.Equal(t, Tokens{Told: true, Fresh: 15, CacheRead: 20, Text: 5, Reasoning: 4}, tr.Seen().Usage)
	for reason, finish := range map[string]string{"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"} {
		got, err := translator(t, Chat, Generate, plainOptions).Response(nil, []byte(`{"candidates":[{"content":{"parts":[]},"finishReason":"`+reason+`"}]}`))
		require.NoError(t, err)
		require.Contains(t, string(got), `"finish_reason":"`+finish+`"`)
	}
	got, err = translator(t, Chat, Generate, plainOptions).Response(nil, []byte(`{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}`))
	require.NoError(t, err)
	require.Contains(t, string(got), `"finish_reason":"content_filter"`)
	tr = translator(t, Chat, Generate, plainOptions)
	_, err = tr.Response(nil, []byte(`{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}`))
	require.Error(t, err)
	require.NotEmpty(t, tr.Seen().Failed)
}

var geminiStream = []string{
	`{"candidates":[{"content":{"parts":[{"text":"Hm.","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":35,"thoughtsTokenCount":2,"totalTokenCount":37}}`,
	`{"candidates":[{"content":{"parts":[{"text":"Hello"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":35,"candidatesTokenCount":1,"thoughtsTokenCount":2,"totalTokenCount":38}}`,
	`{"candidates":[{"content":{"parts":[{"functionCall":{"name":"look","args":{"at":1}}}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":35,"cachedContentTokenCount":20,"candidatesTokenCount":7,"thoughtsTokenCount":2,"totalTokenCount":44}}`,
}

func TestGeminiStreams(t *testing.T) {
	t.Parallel()
	want := Tokens{Told: true, Fresh: 15, CacheRead: 20, Text: 7, Reasoning: 2}
	tr := translator(t, Chat, Generate, plainOptions)
	got := play(t, tr, geminiStream...)
	require.Equal(t, want, tr.Seen().Usage)
	require.Len(t, got, 7)
	require.Contains(t, got[1], `"delta":{"reasoning_content":"Hm."}`)
	require.Contains(t, got[3], `"tool_calls":[{"index":0,"id":"call_1_0","type":"function","function":{"name":"look","arguments":"{\"at\":1}"}}]`)
	require.Contains(t, got[4], `"finish_reason":"tool_calls"`)
	require.Contains(t, got[5], `"total_tokens":44`)
	require.Equal(t, doneMark, got[6])

	tr = translator(t, Messages, Generate, plainOptions) // by two translations
	body, err := tr.Request(nil, []byte(`{"model":"pub","max_tokens":9,"system":"Be brief.","messages":[{"role":"user","content":"Hi"}],"tools":[{"name":"look","input_schema":{"type":"object"}}],"temperature":0.5,"top_k":3,"stream":true}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"role":"user","parts":[{"text":"Hi"}]}],"tools":[{"functionDeclarations":[{"name":"look","parametersJsonSchema":{"type":"object"}}]}],"generationConfig":{"maxOutputTokens":9,"temperature":0.5,"topK":3}}`, string(body))
	var kinds []string
	for _, line := range play(t, tr, geminiStream...) {
		name, data, _ := strings.Cut(line, " ")
		kinds = append(kinds, name)
		if name == "message_delta" {
			require.Contains(t, data, `"stop_reason":"tool_use"`)
			require.Contains(t, data, `"output_tokens":9`)
		}
	}
	require.Equal(t, "message_start content_block_start content_block_delta content_block_stop content_block_start content_block_delta content_block_stop content_block_start content_block_delta content_block_stop message_delta message_stop", strings.Join(kinds, " "))
	require.Equal(t, want, tr.Seen().Usage)
	require.Equal(t, int64(3), tr.Seen().Events)

	for _, upstream := range []Form{Messages, Generate} {
		tr = translator(t, Responses, upstream, plainOptions)
		_, err = tr.Request(nil, []byte(`{"input":"Hi","stream":true,"max_output_tokens":9}`))
		require.NoError(t, err)
		got = play(t, tr, map[Form][]string{Messages: anthropicStream, Generate: geminiStream}[upstream]...)
		require.True(t, strings.HasPrefix(got[len(got)-1], "response.completed "), got[len(got)-1])
		require.Contains(t, got[len(got)-1], `"total_tokens":4`)
	}
}

func TestRerank(t *testing.T) {
	t.Parallel()
	tr := ask(t, Rerank, RerankUpstream, `{"model":"pub","query":"q","documents":["a",{"text":"b"},"c"],"top_n":2,"return_documents":true}`, `{"model":"up","query":"q","documents":["a","b","c"],"top_n":2}`)
	got, err := tr.Response(nil, []byte(`{"model":"up","results":[{"index":2,"relevance_score":0.1},{"index":0,"relevance_score":0.5},{"index":1,"relevance_score":0.5,"document":{"text":"changed"}}],"usage":{"total_tokens":12}}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"rerank-1","model":"pub","results":[{"index":0,"relevance_score":0.5,"document":{"text":"a"}},{"index":1,"relevance_score":0.5,"document":{"text":"b"}}],"usage":{"prompt_tokens":12,"total_tokens":12},
		"meta":{"api_version":{"version":"1"},"billed_units":{"search_units":1},"tokens":{"input_tokens":12}}}`, string(got))
	tr = ask(t, RerankCohere, RerankUpstream, `{"query":"q","documents":["a","b"],"max_tokens_per_doc":100}`, `{"model":"up","query":"q","documents":["a","b"],"top_n":2,"max_tokens_per_doc":100}`)
	got, err = tr.Response(nil, []byte(`{"id":"x","results":[{"index":1,"relevance_score":0.9}],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}`))
	require.NoError(t, err)
	require.Contains(t, string(got), `"version":"2"`)
	require.False(t, tr.Seen().Usage.Told)
	require.Equal(t, int64(1), tr.Seen().Usage.Units)
	_, err = tr.Response(nil, []byte(`{"results":[{"index":9,"relevance_score":0.9}]}`))
	require.Error(t, err, "an index that is none")
}

func TestEmbeddingsByGemini(t *testing.T) {
	t.Parallel()
	tr := ask(t, Embeddings, EmbedContents, `{"model":"pub","input":["a","b"],"encoding_format":"base64","dimensions":2}`,
		`{"requests":[{"model":"models/up","content":{"parts":[{"text":"a"}]},"outputDimensionality":2},{"model":"models/up","content":{"parts":[{"text":"b"}]},"outputDimensionality":2}]}`)
	got, err := tr.Response(nil, []byte(`{"embeddings":[{"values":[1,0.5]},{"values":[-2,0]}]}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"object":"list","model":"pub","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAD8="},{"object":"embedding","index":1,"embedding":"AAAAwAAAAAA="}],"usage":{"prompt_tokens":0,"total_tokens":0}}`, string(got))
	tr = ask(t, Embeddings, EmbedContents, `{"input":"a"}`, `{"requests":[{"model":"models/up","content":{"parts":[{"text":"a"}]}}]}`)
	got, err = tr.Response(nil, []byte(`{"embeddings":[{"values":[1,0.5]}]}`))
	require.NoError(t, err)
	require.Contains(t, string(got), `"embedding":[1,0.5]`)
}

func TestCounts(t *testing.T) {
	t.Parallel()
	const body = `{"model":"pub","system":"Be brief.","messages":[{"role":"user","content":"Hi"}]}`
	tr := ask(t, Count, Tokenize, body, `{"model":"up","max_tokens":1,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}`)
	got, err := tr.Response(nil, []byte(`{"count":11,"max_model_len":512,"tokens":[1]}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"input_tokens":11}`, string(got))
	tr = ask(t, Count, GeminiCount, body, `{"generateContentRequest":{"model":"models/up","systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"role":"user","parts":[{"text":"Hi"}]}],"generationConfig":{"maxOutputTokens":1}}}`)
	got, err = tr.Response(nil, []byte(`{"totalTokens":12}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"input_tokens":12}`, string(got))
}

// pairs are all translations there are.
var pairs = [][2]Form{
	{Chat, Messages}, {Messages, Chat}, {Responses, Chat}, {Chat, Generate}, {Responses, Messages}, {Responses, Generate}, {Messages, Generate}, {Embeddings, EmbedContents}, {Rerank, RerankUpstream},
	{RerankCohere, RerankUpstream}, {Count, Tokenize}, {Count, GeminiCount},
}

// Whatever a client sends: a request that is taken gives one JSON object, one that is not a *FieldError or *Unsupported.
func FuzzTranslateRequest(f *testing.F) {
	for _, s := range []string{
		`{"model":"a","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image","source":{"type":"url","url":"u"}}]}],"system":"s","tools":[{"name":"t","input_schema":{}}]}`,
		`{"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]},{"role":"tool","tool_call_id":"a","content":null}],"tool_choice":{"type":"function","function":{"name":"f"}}}`,
		`{"input":[{"type":"message","role":"user","content":[{"type":"input_image","image_url":"u"}]},{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}],"text":{"format":{"type":"json_object"}}}`,
		`{"query":"q","documents":["a",{"text":"b"}],"top_n":1}`, `{"input":["a"],"encoding_format":"base64"}`, `{}`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, p := range pairs {
			tr := translator(t, p[0], p[1], plainOptions)
			got, err := tr.Request(nil, body)
			if err != nil {
				_, isField := errors.AsType[*FieldError](err)
				_, isDemand := errors.AsType[*Unsupported](err)
				if !isField && !isDemand && json.Valid(body) {
					t.Fatalf("%v: %T %v", p, err, err)
				}
				continue
			}
			if !json.Valid(got) || !bytes.HasPrefix(got, []byte("{")) {
				t.Fatalf("%v: %q", p, got)
			}
		}
	})
}

// Whatever an upstream answers: only whole events with valid data come out, and no panic.
func FuzzTranslateAnswer(f *testing.F) {
	for _, stream := range [][]string{anthropicStream, chatStream, geminiStream} {
		f.Add([]byte(strings.Join(stream, "\n")))
	}
	f.Add([]byte(`{"results":[{"index":0,"relevance_score":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range pairs {
			tr := translator(t, p[0], p[1], plainOptions)
			if out, err := tr.Response(nil, b); err == nil && !json.Valid(out) {
				t.Fatalf("%v: %q", p, out)
			}
			tr = translator(t, p[0], p[1], plainOptions)
			var out []byte
			var err error
			for data := range bytes.SplitSeq(b, []byte("\n")) {
				if out, err = tr.Event(out, data); err != nil {
					break
				}
			}
			if err != nil || tr.Seen().Failed != nil {
				continue
			}
			out, err = tr.Close(out)
			require.NoError(t, err)
			lines(t, out)
			u := tr.Seen().Usage
			require.True(t, u.Fresh >= 0 && u.CacheRead >= 0 && u.CacheWrite >= 0 && u.Text >= 0 && u.Reasoning >= 0)
		}
	})
}
