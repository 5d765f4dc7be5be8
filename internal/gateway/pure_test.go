package gateway

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"maas/internal/inference/engine"
	"maas/internal/platform/fault"
	"maas/internal/user"
)

func gaugeValue(g prometheus.Gauge) float64 {
	var m dto.Metric
	if g.Write(&m) != nil {
		return -1
	}
	return m.GetGauge().GetValue()
}

func TestSplices(t *testing.T) {
	t.Parallel()
	temp := 0.5
	caps := engine.Caps{StreamUsage: true}
	for body, want := range map[string]string{
		`{"model":"a","stream":true}`:                                           `{"model":"b","stream":true,"stream_options":{"include_usage":true},"max_tokens":9,"temperature":0.5}`,
		`{"stream_options":null,"stream":true,"model":"a"}`:                     `{"stream_options":{"include_usage":true},"stream":true,"model":"b","max_tokens":9,"temperature":0.5}`,
		`{"stream_options":{},"stream":true,"model":"a","temperature":1}`:       `{"stream_options":{"include_usage":true},"stream":true,"model":"b","temperature":1,"max_tokens":9}`,
		`{"stream":true,"model":"a","stream_options":{"x":[1]},"max_tokens":1}`: `{"stream":true,"model":"b","stream_options":{"x":[1],"include_usage":true},"max_tokens":1,"temperature":0.5}`,
		`{"stream":true,"model":"a","stream_options":{"include_usage":false }}`: `{"stream":true,"model":"b","stream_options":{"include_usage":true },"max_tokens":9,"temperature":0.5}`,
		`{"stream":true,"model":"a","stream_options":{"include_usage":true}}`:   `{"stream":true,"model":"b","stream_options":{"include_usage":true},"max_tokens":9,"temperature":0.5}`,
		`{"model":"a","max_completion_tokens":3,"temperature":null}`:            `{"model":"b","max_completion_tokens":3,"temperature":null,"temperature":0.5}`,
	} {
		f, err := scan([]byte(body))
		require.NoError(t, err)
		s := plan(&f, []byte(body), &engine.Endpoint{Model: "b", Caps: caps}, &engine.Defaults{MaxTokens: 9, Temperature: &temp})
		got := string(bytes.Join(s.pieces(nil, []byte(body)), nil))
		require.True(t, json.Valid([]byte(got)), got)
		require.Equal(t, want, got)
	}
	require.Equal(t, `"a\"b"`, quoted(`a"b`))
}

func TestRunningUsageIsAskedOfEnginesOfThisMachine(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"model":"a","stream":true}`:                                                                         `{"model":"a","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`,
		`{"model":"a","stream":true,"stream_options":{"include_usage":true}}`:                                 `{"model":"a","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`,
		`{"model":"a","stream":true,"stream_options":{"continuous_usage_stats":false,"include_usage":false}}`: `{"model":"a","stream":true,"stream_options":{"continuous_usage_stats":true,"include_usage":true}}`,
		`{"model":"a","stream":false}`:                                                                        `{"model":"a","stream":false}`,
	} {
		f, err := scan([]byte(body))
		require.NoError(t, err)
		s := plan(&f, []byte(body), &engine.Endpoint{Model: "a", Network: "unix", Caps: engine.Caps{StreamUsage: true}}, &engine.Defaults{})
		require.Equal(t, want, string(bytes.Join(s.pieces(nil, []byte(body)), nil)))
	}
}

func FuzzSplice(f *testing.F) {
	f.Add(`{"model":"a","stream":true,"stream_options":{"x":1}}`, "b")
	f.Fuzz(func(t *testing.T, body, name string) {
		fs, err := scan([]byte(body))
		if err != nil {
			return
		}
		temp := 1.5
		s := plan(&fs, []byte(body), &engine.Endpoint{Model: name, Caps: engine.Caps{StreamUsage: true}}, &engine.Defaults{MaxTokens: 9, TopP: &temp})
		out := bytes.Join(s.pieces(nil, []byte(body)), nil)
		var v struct {
			Model   string `json:"model"`
			Stream  bool   `json:"stream"`
			Options struct {
				IncludeUsage bool `json:"include_usage"`
			} `json:"stream_options"`
		}
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatalf("%q became %q: %v", body, out, err)
		}
		if utf8.ValidString(name) && v.Model != name {
			t.Fatalf("model %q in %q", v.Model, out)
		}
		if fs.stream && !v.Options.IncludeUsage {
			t.Fatalf("no include_usage in %q", out)
		}
	})
}

const sampleStream = ": hi\n\ndata: {\"model\":\"e\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n" +
	"data: {\"model\":\"e\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"he said \\\"usage\\\":{ x\"},\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\r\n\r\n" +
	"data: {\"model\":\"e\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" +
	"data: {\"model\": \"e\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":3},\"completion_tokens_details\":{\"reasoning_tokens\":1}}}\n\n" +
	"data: [DONE]\n\n"

func cutAt(stream string, cuts ...int) (*cutter, string) {
	c := &cutter{}
	c.reset(false, false, `"public"`)
	from := 0
	for _, at := range append(cuts, len(stream)) {
		if at < from || at > len(stream) {
			continue
		}
		if err := c.feed([]byte(stream[from:at])); err != nil {
			return c, "error: " + err.Error()
		}
		from = at
	}
	return c, string(c.out)
}

// However the bytes are cut, the client gets the same and the usage is the same.
func TestCutterAtEveryByte(t *testing.T) {
	t.Parallel()
	whole, want := cutAt(sampleStream)
	require.Equal(t, tokens{told: true, inFresh: 2, inCache: 3, outText: 1, outThought: 1}, whole.usage)
	require.Equal(t, int64(1), whole.events)
	require.True(t, whole.done && whole.finished)
	require.Equal(t, 3, strings.Count(want, `"model":"public"`))
	require.NotContains(t, want, `"usage":{"prompt`)
	require.Contains(t, want, `he said \"usage\":{ x`)
	require.NotContains(t, want, `"choices":[]`)
	for i := range sampleStream {
		for _, j := range []int{i + 1, i + 2, i + 7} {
			c, got := cutAt(sampleStream, i, j)
			require.Equal(t, want, got, "cut at %d and %d", i, j)
			require.Equal(t, whole.usage, c.usage)
			require.Equal(t, whole.events, c.events)
		}
	}
}

func FuzzCutter(f *testing.F) {
	f.Add(sampleStream, 10, 100)
	f.Add("data: {\"error\":{\"message\":\"x\"}}\n\n", 3, 9)
	f.Add("data: {\"usage\":{\"model\":\"x\",\"prompt_tokens\":1},\"choices\":[{}]}\n\n", 3, 9)
	f.Add("garbage\n\ndata: {\"usage\":{\"prompt_tokens\":0}}\n\r\n", 3, 9)
	f.Fuzz(func(t *testing.T, stream string, i, j int) {
		a, want := cutAt(stream)
		b, got := cutAt(stream, min(i, j), max(i, j))
		if want == got && strings.HasPrefix(want, "error: ") {
			return // the protocol was broken: what stood behind that place in the same piece may have been read or not
		}
		if want != got || a.usage != b.usage || a.done != b.done || a.events != b.events {
			t.Fatalf("cut at %d, %d: %q, whole %q", i, j, got, want)
		}
	})
}

func TestUsageForms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]tokens{
		`{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}`:                                                                                      {told: true, inFresh: 10, inCache: 0, outText: 4, outThought: 0},
		`{"prompt_tokens": 10, "completion_tokens": 4, "prompt_cache_hit_tokens": 6}`:                                                                       {told: true, inFresh: 4, inCache: 6, outText: 4, outThought: 0},
		`{"prompt_tokens":10,"completion_tokens":4,"total_tokens":20,"completion_tokens_details":{"reasoning_tokens":6}}`:                                   {told: true, inFresh: 10, inCache: 0, outText: 4, outThought: 6},
		`{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20,"completion_tokens_details":{"reasoning_tokens":6}}`:                                  {told: true, inFresh: 10, inCache: 0, outText: 4, outThought: 6},
		`{"prompt_tokens":10,"completion_tokens":-4,"prompt_tokens_details":{"cached_tokens":99}}`:                                                          {told: true, inFresh: 0, inCache: 10, outText: 0, outThought: 0},
		`{"prompt_tokens":1e1,"completion_tokens":null}`:                                                                                                    {told: true, inFresh: 10, inCache: 0, outText: 0, outThought: 0},
		`{"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":7,"output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}`:   {told: true, inFresh: 10, inCache: 5, inWrite: 7, outText: 5, outThought: 4},
		`{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":19}`: {told: true, inFresh: 6, inCache: 4, outText: 6, outThought: 3},
		`{"total_tokens":12}`: {told: true, inFresh: 12},
	} {
		got, ok := parseUsage([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	_, ok := parseUsage([]byte(`{}`))
	require.False(t, ok)
}

func TestUsageRowRoundTrip(t *testing.T) {
	t.Parallel()
	u := user.Usage{RequestID: "req_1", ClientRequestID: "c", At: time.UnixMicro(1_700_000_000_123_456).UTC(), TenantID: "ten_1", UserID: "usr_1", KeyID: "key_1", Op: "chat", Model: "m", DeploymentID: "dep", ReplicaID: "rep",
		Stream: true, Status: 200, End: "done", Source: "upstream", Attempts: 2, InFresh: 1, InCache: 2, OutText: 3, OutReasoning: 4, TTFTMS: 5, DurationMS: 6}
	b := appendUsage(nil, &u)
	got, err := decodeUsage(b)
	require.NoError(t, err)
	require.Equal(t, u, got)
	for i := range b {
		_, err := decodeUsage(b[:i])
		require.Error(t, err)
	}
}

func FuzzUsageRow(f *testing.F) {
	f.Add(appendUsage(nil, &user.Usage{RequestID: "req_1", At: time.Unix(1, 0)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := decodeUsage(b)
		if err != nil {
			return
		}
		again, err := decodeUsage(appendUsage(nil, &u))
		if err != nil || !reflect.DeepEqual(again, u) {
			t.Fatalf("%+v reads back as %+v: %v", u, again, err)
		}
	})
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"at http://10.0.0.1:8000/v1", "key sk-abcdefghijkl", "host 192.168.1.4:99 down", "/var/lib/models/x.gguf", "engine.default.svc.cluster.local:80", "eyJhbGciOiJIUzI1NiJ9.abc.def"} {
		require.Contains(t, scrub(s), "***", s)
	}
	require.Equal(t, "This model's maximum context length is 8 tokens. 1.5/2", scrub("This model's maximum context length is 8 tokens. 1.5/2"))
}

func TestOpenAIFormKeepsInternalWordsInside(t *testing.T) {
	t.Parallel()
	b := string(errorBody(fault.ErrInternal.With("secret detail"), "req_1"))
	require.NotContains(t, b, "secret")
	require.Contains(t, b, `"param":null`)
	require.Contains(t, b, "req_1")
}

func BenchmarkCutter(b *testing.B) {
	event := []byte(`data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"engine-side","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n")
	c := &cutter{}
	c.reset(false, false, `"team/llama"`)
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.feed(event); err != nil {
			b.Fatal(err)
		}
		c.out = c.out[:0]
	}
}
