package worker

import (
	"bytes"
	"io"
	"testing"

	"maas/internal/llm/modelgen"
)

// FuzzBodies posts any bytes to the data plane: whatever they are, the answer is a success or names a fault of the request, and the worker lives.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{
		`{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":true,"n":2,"stream_options":{"include_usage":true}}`,
		`{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"x","tool_call_id":"a"}],"tools":[{"type":"function","function":{"name":"f"}}]}`,
		`{"prompt":["a",""],"echo":true,"logprobs":3,"max_tokens":3,"stop":[""],"logit_bias":{"3":-100},"seed":-1,"top_k":-1,"min_p":0.1}`,
		`{"prompt":[[1,2],[]],"temperature":1e-300,"top_p":1e-12,"repetition_penalty":1e300,"min_tokens":3,"max_tokens":4}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"\ud800"}]}],"chat_template_kwargs":{"messages":1,"x":[{}]},"documents":[1]}`,
		`{"tokens":[1,2,99999,-1]}`, `{"prompt":"\u0000","temperature":2,"frequency_penalty":-2,"presence_penalty":2}`,
	} {
		f.Add([]byte(s))
	}
	c := start(f, modelgen.Spec{Kind: modelgen.Demo, Ctx: 256}, Config{MaxSeqs: 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"} {
			resp, err := c.http.Post("http://engine"+path, "application/json", bytes.NewReader(b)) //nolint:noctx // a test
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			status := resp.StatusCode
			if status != 200 && status != 400 {
				t.Fatalf("%s: %d %s", path, status, body)
			}
		}
	})
}
