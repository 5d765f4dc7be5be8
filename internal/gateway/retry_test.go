package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/internal/inference"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "0": 0, "-3": 0, "soon": 0, "1.5": 0, "999999": time.Hour,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Second).Format(http.TimeFormat):     0,
		now.Add(48 * time.Hour).Format(http.TimeFormat):   time.Hour,
	} {
		require.Equal(t, want, retryAfter(text, now), text)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		class inference.Class
		kind  string
		leave bool
	}{
		204: {inference.Broken, "5xx", false}, 302: {inference.Broken, "5xx", false}, 400: {inference.Rejected, "", false}, 401: {inference.Broken, "5xx", true}, 402: {inference.Broken, "5xx", true},
		403: {inference.Broken, "5xx", true}, 404: {inference.Broken, "5xx", true}, 408: {inference.Broken, "5xx", false}, 409: {inference.Rejected, "", false}, 413: {inference.Rejected, "", false},
		422: {inference.Rejected, "", false}, 425: {inference.Broken, "5xx", false}, 429: {inference.Busy, "429", false}, 500: {inference.Broken, "5xx", false}, 529: {inference.Broken, "5xx", false},
	} {
		class, kind, leave := judge(status)
		require.Equal(t, want.class, class, status)
		require.Equal(t, want.kind, kind, status)
		require.Equal(t, want.leave, leave, status)
	}
}

func TestOneObject(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`{}`: true, " {\"a\":[1,{\"b\":null}]}\r\n": true, "": false, "null": false, "[]": false, `{"a":1`: false, `{"a":1}x`: false, `{} {}`: false, `{"a":"x` + "\n" + `"}`: false, "<html>": false, `{"a":01}`: false,
	} {
		require.Equal(t, want, oneObject([]byte(text)), text)
	}
}

// What tells a conversation from others does not change as it grows.
func TestOpeningOfAConversation(t *testing.T) {
	t.Parallel()
	first := `{"model":"m","messages":[{"role":"system","content":"s"}, {"role":"user","content":"one"}],"stream":true}`
	later := `{"messages":[{"role":"system","content":"s"}, {"role":"user","content":"one"},{"role":"assistant","content":"x"},{"role":"user","content":"two"}],"model":"m"}`
	other := `{"model":"m","messages":[{"role":"system","content":"s"}, {"role":"user","content":"two"}]}`
	require.Equal(t, string(opening([]byte(first))), string(opening([]byte(later))))
	require.NotEqual(t, string(opening([]byte(first))), string(opening([]byte(other))))
	require.Equal(t, `"hello"}`, string(opening([]byte(`{"prompt":"hello"}`))))
	require.Len(t, opening([]byte(`{"messages":[{"role":"user","content":"`+strings.Repeat("x", 5000)+`"}]}`)), sessionMost)
	for _, odd := range []string{`{`, `{"messages":`, `{"messages":[`, `{"messages":[{`, `{"messages":[{"role"`, `{"messages":[1,2]}`, `{"messages":"x"}`, ``} {
		require.LessOrEqual(t, len(opening([]byte(odd))), sessionMost)
	}
	c := &call{body: []byte(`{"messages":[{"role":"user","content":"\"prompt_cache_key\":\"fake\""}],"prompt_cache_key":"real"}`)}
	require.Equal(t, sessionOf([]byte("real")), c.session(), "a key inside a string is none")
}
