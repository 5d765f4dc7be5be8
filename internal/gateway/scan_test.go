package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScanFindsTheInspectedFields(t *testing.T) {
	t.Parallel()
	body := []byte(` {"messages":[{"role":"user","content":"hé\n\"x\""}], "model" : "a/b:c" ,"stream":true,"stream_options":{"x":1,"include_usage":true},"n":2,"max_tokens":1e2,"temperature":0,"top_p":null} `)
	f, err := scan(body)
	require.NoError(t, err)
	require.Equal(t, "a/b:c", string(f.name(body)))
	require.True(t, f.stream && f.includeUsage && f.hasTemp && f.hasMax && f.member && f.optMember)
	require.False(t, f.hasTopP)
	require.Equal(t, int64(100), f.maxTokens)
	require.Equal(t, int64(2), f.n)
	require.Equal(t, byte('}'), body[f.end])
	require.Equal(t, `{"x":1,"include_usage":true}`, string(body[f.options.from:f.options.to]))
	require.Equal(t, len("user")+len(`hé\n\"x\"`), f.textBytes)
}

func TestScanRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 128) + strings.Repeat("]", 128)
	for body, want := range map[string]error{
		``:                                 ErrInvalidJSON,
		`[]`:                               ErrInvalidJSON,
		`{"model":"m"} x`:                  ErrInvalidJSON,
		`{"model":"m"}{}`:                  ErrInvalidJSON,
		`{"model":"m"`:                     ErrInvalidJSON,
		`{"model":"m",}`:                   ErrInvalidJSON,
		`{"model":"m" "a":1}`:              ErrInvalidJSON,
		`{"model":"m","a":01}`:             ErrInvalidJSON,
		`{"model":"m","a":+1}`:             ErrInvalidJSON,
		`{"model":"m","a":[1 2]}`:          ErrInvalidJSON,
		`{"model":"m","a":[1,]}`:           ErrInvalidJSON,
		`{"model":"m","a":{1:2}}`:          ErrInvalidJSON,
		`{"model":"m","a":"` + "\n" + `"}`: ErrInvalidJSON,
		`{"model":"m","a":"\x"}`:           ErrInvalidJSON,
		`{"model":"m","a":tru}`:            ErrInvalidJSON,
		`{"model":"m","a":` + deep + `}`:   ErrInvalidJSON,
		`{}`:                               ErrInvalidModel,
		`{"a":1}`:                          ErrInvalidModel,
		`{"model":1}`:                      ErrInvalidModel,
		`{"model":null}`:                   ErrInvalidModel,
		`{"model":""}`:                     ErrInvalidModel,
		`{"model":"\u0061"}`:               ErrInvalidModel,
		`{"model":"` + strings.Repeat("x", 257) + `"}`: ErrInvalidModel,
		`{"model":"a","model":"b"}`:                    ErrAmbiguousField,
		`{"model":"a","MODEL":"b"}`:                    ErrAmbiguousField,
		`{"Model":"a"}`:                                ErrAmbiguousField,
		`{"model":"a","ſtream":true}`:                  ErrAmbiguousField,
		`{"model":"a","max_toKens":1}`:                 ErrAmbiguousField,
		`{"model":"a","\u006dodel":"b"}`:               ErrAmbiguousField,
		`{"model":"a","stream_options":{"include_usage":true,"include_usage":false}}`: ErrAmbiguousField,
		`{"model":"a","stream":"true"}`:                                               ErrInvalidParameter,
		`{"model":"a","stream":1}`:                                                    ErrInvalidParameter,
		`{"model":"a","max_tokens":1.5}`:                                              ErrInvalidParameter,
		`{"model":"a","max_tokens":-1}`:                                               ErrInvalidParameter,
		`{"model":"a","n":"1"}`:                                                       ErrInvalidParameter,
		`{"model":"a","stream_options":[]}`:                                           ErrInvalidParameter,
		`{"model":"a","stream_options":{"include_usage":1}}`:                          ErrInvalidParameter,
	} {
		_, err := scan([]byte(body))
		require.ErrorIs(t, err, want, "%.80s", body)
	}
	_, err := scan([]byte(`{"model":"m","a":` + deep[1:255] + `}`))
	require.NoError(t, err, "127 levels inside the object are 128")
}

// What scan accepts is valid for encoding/json and decodes to the same inspected values; what it refuses as invalid JSON is invalid there too (but for nesting and the object rule).
func checkScan(t *testing.T, body []byte) {
	f, err := scan(body)
	if err != nil {
		if errors.Is(err, ErrInvalidJSON) && json.Valid(body) && bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) < maxNesting && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
			t.Fatalf("refused valid JSON %q: %v", body, err)
		}
		return
	}
	var v struct {
		Model   string `json:"model"`
		Stream  *bool  `json:"stream"`
		Options *struct {
			IncludeUsage *bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if !json.Valid(body) {
		t.Fatalf("accepted invalid JSON %q", body)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("accepted what encoding/json refuses: %q: %v", body, err)
	}
	name := strings.ToValidUTF8(string(f.name(body)), "\uFFFD")
	if strings.ToValidUTF8(v.Model, "\uFFFD") != v.Model || len(name) == len(v.Model) && name != v.Model {
		t.Fatalf("model %q, encoding/json says %q", name, v.Model)
	}
	if got, want := f.stream, v.Stream != nil && *v.Stream; got != want {
		t.Fatalf("stream %v, encoding/json says %v in %q", got, want, body)
	}
	if got, want := f.includeUsage, v.Options != nil && v.Options.IncludeUsage != nil && *v.Options.IncludeUsage; got != want {
		t.Fatalf("include_usage %v, encoding/json says %v in %q", got, want, body)
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}`, `{"model":"m","stream_options":{"include_usage":true}}`, `{"model":"m","a":[[],{},"\u00e9",-1.5e+3,null]}`,
		`{"MODEL":"x"}`, `{"ſtream":true,"model":"a"}`, "{\"model\":\"\xff\"}", `{"model":"m","n":1e0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkScan(t, body) })
}

func benchBody(size int) []byte {
	text, _ := json.Marshal(strings.Repeat("The quick brown fox jumps over the lazy dog. ", size/45))
	return fmt.Appendf(nil, `{"model":"my-llama","messages":[{"role":"user","content":%s}],"stream":true,"temperature":0.7}`, text)
}

func BenchmarkScan(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		body := benchBody(size)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := scan(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
