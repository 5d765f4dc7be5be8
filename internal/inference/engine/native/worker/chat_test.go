package worker

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"maas/internal/inference/dialect"
	"maas/internal/llm/chat"
	"maas/internal/llm/modelgen"
	"maas/internal/llm/run"
)

const hello = `"messages":[{"role":"developer","content":"Be kind."},{"role":"user","content":[{"type":"text","text":"Hi"}]}]`

func TestChatWhole(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.DemoSpec(), Config{})
	code, body := c.post("/v1/chat/completions", `{"model":"x",`+hello+`,"temperature":0,"logprobs":true,"top_logprobs":2}`)
	require.Equal(t, 200, code, body)
	a := decodeInto[dialect.ChatAnswer](t, body)
	require.True(t, strings.HasPrefix(a.ID, "chatcmpl-"))
	require.Equal(t, "chat.completion", a.Object)
	require.Equal(t, modelgen.DemoAnswer, *a.Choices[0].Message.Content)
	require.Equal(t, "stop", *a.Choices[0].FinishReason)
	u := decodeInto[dialect.Usage](t, string(*a.Usage))
	require.Len(t, a.Choices[0].Logprobs.Content, u.CompletionTokens)
	text := ""
	var textSb34 strings.Builder
	for _, lp := range a.Choices[0].Logprobs.Content {
		textSb34.WriteString(lp.Token)
		require.Len(t, lp.TopLogprobs, 2)
		require.Len(t, lp.Bytes, len(lp.Token))
	}
	text += textSb34.String()
	require.True(t, strings.HasPrefix(text, modelgen.DemoAnswer))
	var raw map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &raw))
	msg := raw["choices"].([]any)[0].(map[string]any)["message"].(map[string]any)
	require.Contains(t, msg, "refusal")
	require.Nil(t, msg["refusal"])
}

func TestChatStreamHasOpenAIsShape(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.DemoSpec(), Config{})
	code, body := c.post("/v1/chat/completions", `{"model":"x",`+hello+`,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`)
	require.Equal(t, 200, code)
	es := events(t, body)
	n := len(es)
	require.Equal(t, "[DONE]", es[n-1])
	require.Contains(t, es[0], `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}`)
	require.Contains(t, es[n-3], `"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}`)
	require.Contains(t, es[n-2], `"choices":[],"usage":{"prompt_tokens":`)
	text := ""
	var textSb59 strings.Builder
	for _, e := range es[1 : n-3] {
		a := decodeInto[dialect.ChatAnswer](t, e)
		require.Equal(t, "chat.completion.chunk", a.Object)
		require.Empty(t, a.Choices[0].Delta.Role)
		textSb59.WriteString(*a.Choices[0].Delta.Content)
	}
	text += textSb59.String()
	require.Equal(t, modelgen.DemoAnswer, text)

	_, body = c.post("/v1/chat/completions", `{"model":"x",`+hello+`,"temperature":0,"stream":true}`)
	require.NotContains(t, body, "usage")
}

func TestChatOfSeveralChoicesInAStream(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.DemoSpec(), Config{})
	_, body := c.post("/v1/chat/completions", `{"model":"x",`+hello+`,"temperature":0,"stream":true,"n":3,"stop":"demo"}`)
	texts, ends := map[int]string{}, 0
	es := events(t, body)
	for _, e := range es[:len(es)-1] {
		ch := decodeInto[dialect.ChatAnswer](t, e).Choices[0]
		if ch.Delta.Content != nil {
			texts[ch.Index] += *ch.Delta.Content
		}
		if ch.FinishReason != nil {
			require.Equal(t, "stop", *ch.FinishReason)
			require.Equal(t, "demo", ch.StopReason)
			ends++
		}
	}
	require.Equal(t, 3, ends)
	want, _, _ := strings.Cut(modelgen.DemoAnswer, "demo")
	require.Equal(t, map[int]string{0: want, 1: want, 2: want}, texts)
}

func TestChatTextOfAUserIsNeverControl(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.DemoSpec(), Config{})
	count := func(text string) int {
		b, _ := json.Marshal(text)
		_, body := c.post("/tokenize", `{"messages":[{"role":"user","content":`+string(b)+`}]}`)
		return decodeInto[struct{ Count int }](t, body).Count
	}
	require.Greater(t, count("<|im_end|>"), count("x")+3, "the marker is plain characters, not one token")
}

func TestChatRefusals(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.DemoSpec(), Config{})
	for body, code := range map[string]string{
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}`:        "inference.capability_missing",
		`{` + hello + `,"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required"}`: "inference.capability_missing",
		`{` + hello + `,"top_logprobs":2}`:                                                 "inference.worker_request",
		`{` + hello + `,"n":17}`:                                                           "inference.worker_request",
		`{` + hello + `,"logit_bias":{"x":1}}`:                                             "inference.worker_request",
		`{` + hello + `,"response_format":{"type":"json_schema"}}`:                         "inference.capability_missing",
		`{"messages":[{"role":"user","content":"` + strings.Repeat("word ", 9000) + `"}]}`: "context_length_exceeded",
	} {
		status, got := c.post("/v1/chat/completions", body)
		require.Equal(t, 400, status, got)
		require.Equal(t, code, *decodeInto[dialect.ErrorBody](t, got).Error.Code, got)
	}
}

func TestSixtyFourParallelChats(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.DemoSpec(), Config{MaxSeqs: 16, Context: 1024})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			_, body := c.post("/v1/chat/completions", `{"model":"x",`+hello+`,"temperature":0}`)
			a := decodeInto[dialect.ChatAnswer](t, body)
			if *a.Choices[0].Message.Content != modelgen.DemoAnswer {
				t.Error(body)
			}
		})
	}
	wg.Wait()
	s := c.stats()
	require.Zero(t, s.Running+s.Waiting)
	require.Equal(t, s.Pages, s.FreePages)
	require.Positive(t, s.PrefixHits)
}

func TestPrefixesAreSharedWithinATenantOnly(t *testing.T) {
	t.Parallel()
	c := start(t, modelgen.DemoSpec(), Config{})
	long := strings.Repeat("the same words ", 20)
	cached := func(tenant, salt string) int {
		b, _ := json.Marshal(map[string]any{"messages": []map[string]string{{"role": "user", "content": long}}, "max_tokens": 1, "cache_salt": salt})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine/v1/chat/completions", strings.NewReader(string(b)))
		require.NoError(t, err)
		req.Header.Set("X-Maas-Tenant", tenant)
		resp, err := c.http.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return cachedOf(t, string(*decodeInto[dialect.ChatAnswer](t, string(body)).Usage))
	}
	require.Zero(t, cached("a", ""))
	require.Positive(t, cached("a", ""))
	require.Zero(t, cached("b", ""))
	require.Zero(t, cached("a", "x"))
	require.Positive(t, cached("a", "x"))
}

func cachedOf(t *testing.T, usage string) int {
	t.Helper()
	return decodeInto[dialect.Usage](t, usage).PromptTokensDetails.CachedTokens
}

// A model that calls tools is beyond generated ones: its text is fed in by hand, in every cut.
func TestToolCallsAndReasoningInAnswers(t *testing.T) {
	t.Parallel()
	const source = `{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}<tool_call>{"name": <function-name>, "arguments": <args-json-object>}</tool_call>{% endif %}<think></think>`
	const said = "<think>hm</think>Sure.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": [2, 3]}}\n</tool_call>\n<tool_call>\n{\"name\": \"end\", \"arguments\": {}}\n</tool_call>"
	for size := 1; size < 40; size += 3 {
		c := &chatCall{m: &model{}, parsers: []*chat.Parser{chat.NewParser(chat.FormatOf(source), true, "")}}
		m, text := &dialect.ChatMessage{}, ""
		names := map[int]int{}
		for at := 0; at < len(said); at += size {
			end := min(at+size, len(said))
			ch := run.Chunk{Text: said[at:end], Tokens: []int32{1}}
			if end == len(said) {
				ch.Finish = run.FinishStop
			}
			for _, d := range c.deltas(ch) {
				addDelta(m, &text, d)
				if w := wireDelta(d); len(w.ToolCalls) > 0 && w.ToolCalls[0].Function.Name != "" {
					require.Equal(t, "function", w.ToolCalls[0].Type)
					names[*w.ToolCalls[0].Index]++
				}
			}
		}
		require.Equal(t, "hm", strings.TrimSpace(m.ReasoningContent), size)
		require.Equal(t, "Sure.", strings.TrimSpace(text), size)
		require.Len(t, m.ToolCalls, 2, size)
		require.Equal(t, "add", m.ToolCalls[0].Function.Name)
		require.JSONEq(t, `{"a":1,"b":[2,3]}`, m.ToolCalls[0].Function.Arguments)
		require.Equal(t, "end", m.ToolCalls[1].Function.Name)
		require.NotEmpty(t, m.ToolCalls[1].ID)
		require.Equal(t, map[int]int{0: 1, 1: 1}, names, "id and name come once per call")
		require.Equal(t, "tool_calls", *finishReason(run.FinishStop, c.parsers[0].ToolCalls() > 0))
		if size == 1 {
			require.Positive(t, c.thought)
		}
	}
}
