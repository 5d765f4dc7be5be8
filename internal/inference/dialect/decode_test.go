package dialect

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeMatchesKeysExactly(t *testing.T) {
	t.Parallel()
	var r ChatRequest
	require.NoError(t, Decode([]byte(`{"model":"a","Model":"b","MESSAGES":1,"messages":[{"role":"user","Role":"x","content":"hi"}],"new_field":{"x":1},"stream_options":{"include_usage":true},"stop":"end","temperature":null}`), &r))
	require.Equal(t, "a", r.Model)
	require.Equal(t, "user", r.Messages[0].Role)
	require.True(t, r.StreamOptions.IncludeUsage)
	require.Equal(t, Strings{"end"}, r.Stop)
	require.Nil(t, r.Temperature)
}

func TestDecodeNamesTheWrongField(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"messages":[{"role":"user"},{"role":5}]}`: "messages[1].role: must be a string",
		`{"temperature":"hot"}`:                     "temperature: must be a number",
		`{"stop":[1]}`:                              "stop: must be a string or a list of strings",
		`{"messages":{}}`:                           "messages: must be a list",
		`{"n":1.5}`:                                 "n: must be a whole number",
		`[1]`:                                       "the body is not a JSON object",
		``:                                          "the body is not a JSON object",
	} {
		var r ChatRequest
		require.EqualError(t, Decode([]byte(body), &r), want, body)
	}
	var r ChatRequest
	require.ErrorContains(t, Decode([]byte(`{"model":`), &r), "not valid JSON")
}

func TestPromptForms(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]Prompts{
		`"a"`:         {{Text: "a"}},
		`["a","b"]`:   {{Text: "a"}, {Text: "b"}},
		`[1,2]`:       {{IDs: []int32{1, 2}}},
		`[[1],[2,3]]`: {{IDs: []int32{1}}, {IDs: []int32{2, 3}}},
	} {
		var r CompletionRequest
		require.NoError(t, Decode([]byte(`{"prompt":`+body+`}`), &r))
		require.Equal(t, want, r.Prompt, body)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}],"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}],"stop":["a"],"logit_bias":{"1":2}}`, `{"prompt":[[1],[2]],"n":1e9}`, `{"a":`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var chat ChatRequest
		if err := Decode(b, &chat); err != nil {
			var fe *FieldError
			require.ErrorAs(t, err, &fe)
		}
		var completion CompletionRequest
		_ = Decode(b, &completion)
	})
}
