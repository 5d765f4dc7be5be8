package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// one sends one request and judges what comes: a whole answer, one error event behind text, or a refusal with words.
func (k *soak) one(ctx context.Context) {
	stream := rand.IntN(4) > 0  //nolint:gosec // a mix of requests
	leave := rand.IntN(12) == 0 //nolint:gosec // the same
	tokens := 1 + rand.IntN(30) //nolint:gosec // the same
	ask, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if leave {
		time.AfterFunc(time.Duration(rand.IntN(300))*time.Millisecond, cancel) //nolint:gosec // the same
	}
	body := fmt.Sprintf(`{"model":"soak","stream":%v,"messages":[{"role":"user","content":"tokens=%d"}]}`, stream, tokens)
	q, err := http.NewRequestWithContext(ask, http.MethodPost, k.s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		k.blame("request: %v", err)
		return
	}
	q.Header.Set("Authorization", "Bearer "+k.s.key)
	q.Header.Set("Content-Type", "application/json")
	resp, err := k.s.http.Do(q)
	if err != nil {
		if ask.Err() == nil {
			k.blame("no answer: %v", err)
		}
		k.left.Add(1)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	out := outcome{id: resp.Header.Get("X-Request-Id")}
	switch {
	case resp.StatusCode != http.StatusOK:
		k.refusal(ask, resp)
		return
	case stream:
		err = k.events(resp.Body, &out)
	default:
		err = whole(resp.Body, &out)
	}
	switch {
	case ask.Err() != nil:
		out.left = true
		k.left.Add(1)
	case err != nil:
		k.blame("%s: %v", out.id, err)
	case out.done:
		k.answers.Add(1)
	default:
		k.broken.Add(1)
	}
	k.keep(out)
}

func (k *soak) keep(o outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) < keptMost {
		k.kept = append(k.kept, o)
		return
	}
	old := &k.kept[rand.IntN(keptMost)] //nolint:gosec // a sample
	for _, u := range k.ups {
		u.Forget(old.id)
	}
	*old = o
}

// refusal judges an answer that is no success. The third upstream never fails, so there is one only where a whole answer timed out, which is not asked for again.
func (k *soak) refusal(ctx context.Context, resp *http.Response) {
	b, err := io.ReadAll(resp.Body)
	if ctx.Err() != nil {
		k.left.Add(1)
		return
	}
	var e struct {
		Error struct{ Message, Code string }
	}
	if err != nil || json.Unmarshal(b, &e) != nil || e.Error.Message == "" {
		k.blame("status %d without words: %q", resp.StatusCode, b)
	}
	if strings.Contains(string(b), "127.0.0.1") || strings.Contains(string(b), "10.1.2.3") || strings.Contains(string(b), "sk-abc") {
		k.blame("an address or a key got out: %q", b)
	}
	switch resp.StatusCode {
	case http.StatusGatewayTimeout:
	default:
		k.blame("status %d after %s attempts: %s %s", resp.StatusCode, resp.Header.Get("X-Maas-Attempts"), e.Error.Code, e.Error.Message)
	}
	k.refused.Add(1)
}

func whole(r io.Reader, out *outcome) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var a struct {
		Model   string
		Choices []struct{ Message struct{ Content string } }
		Usage   struct {
			Completion int `json:"completion_tokens"`
		}
	}
	if err := json.Unmarshal(b, &a); err != nil || len(a.Choices) != 1 || a.Model != "soak" {
		return fmt.Errorf("a whole answer is none: %.200q", b)
	}
	out.pieces, out.done = strings.Count(a.Choices[0].Message.Content, "word"), true
	if out.pieces != a.Usage.Completion {
		return fmt.Errorf("%d words, %d told", out.pieces, a.Usage.Completion)
	}
	return nil
}

// events reads a stream: whole events of JSON, then the end mark, or one error event and nothing behind it.
func (k *soak) events(r io.Reader, out *outcome) error {
	failed := false
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			if !out.done && !failed {
				return fmt.Errorf("a stream ended after %d pieces without an end mark or an error", out.pieces)
			}
			return nil
		}
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		switch {
		case len(line) == 0 || line[0] == ':':
			continue
		case !ok || out.done || failed:
			return fmt.Errorf("%q is out of place", line)
		case string(data) == "[DONE]":
			out.done = true
			continue
		case !json.Valid(data):
			return fmt.Errorf("%q is no event", data)
		case bytes.HasPrefix(data, []byte(`{"error":`)):
			failed = true
			if bytes.Contains(data, []byte("10.1.2.3")) || bytes.Contains(data, []byte("sk-abc")) {
				return fmt.Errorf("an address or a key got out: %q", data)
			}
		case bytes.Contains(data, []byte(`"content":"w`)):
			out.pieces++
		}
	}
}
