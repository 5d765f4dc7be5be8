package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"maas/internal/platform/fault"
)

// ErrStream is an error that the server sent inside a stream.
var ErrStream = fault.New(fault.Upstream, "cli.stream_failed", "the answer broke off")

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatOptions struct {
	system      string
	maxTokens   int
	temperature float64
	seed        int64
}

func (a *app) chatCmd() *cobra.Command {
	var o chatOptions
	c := &cobra.Command{Use: "chat MODEL [PROMPT]", Short: "Talk to a deployed model; without a prompt, line by line", Args: cobra.RangeArgs(1, 2), Example: "  maas chat my-llama\n  maas chat my-llama \"hello\""}
	c.Flags().StringVar(&o.system, "system", "", "system prompt")
	c.Flags().IntVar(&o.maxTokens, "max-tokens", 0, "limit of an answer in tokens")
	c.Flags().Float64Var(&o.temperature, "temperature", -1, "0 = always the likeliest token (default: the deployment's)")
	c.Flags().Int64Var(&o.seed, "seed", 0, "repeat an answer exactly")
	c.RunE = a.withClient(func(ctx context.Context, cl *client, args []string) error {
		var history []message
		if o.system != "" {
			history = append(history, message{"system", o.system})
		}
		if len(args) == 2 {
			_, err := a.turn(ctx, cl, args[0], append(history, message{"user", args[1]}), o)
			return err
		}
		a.say("Chatting with %s. Ctrl-D ends.", args[0])
		lines := bufio.NewScanner(a.in)
		lines.Buffer(nil, 1<<20)
		for {
			fmt.Fprint(a.err, "> ")
			if !lines.Scan() {
				a.say("")
				return lines.Err()
			}
			if strings.TrimSpace(lines.Text()) == "" {
				continue
			}
			history = append(history, message{"user", lines.Text()})
			answer, err := a.turn(ctx, cl, args[0], history, o)
			if err != nil {
				return err
			}
			history = append(history, message{"assistant", answer})
		}
	})
	return c
}

// turn streams one answer to standard output and its figures to standard error.
func (a *app) turn(ctx context.Context, cl *client, model string, history []message, o chatOptions) (string, error) {
	body := map[string]any{"model": model, "messages": history, "stream": true, "stream_options": map[string]bool{"include_usage": true}}
	if o.maxTokens > 0 {
		body["max_tokens"] = o.maxTokens
	}
	if o.temperature >= 0 {
		body["temperature"] = o.temperature
	}
	if o.seed != 0 {
		body["seed"] = o.seed
	}
	b, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	start := time.Now()
	resp, err := cl.send(ctx, http.MethodPost, "/api/v1/inference/chat", bytes.NewReader(b), func(h http.Header) { h.Set("Content-Type", "application/json") })
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	s := answerStream{out: a.out}
	err = s.read(resp.Body)
	fmt.Fprintln(a.out)
	if err != nil {
		return s.text.String(), err
	}
	total := time.Since(start)
	if s.first.IsZero() {
		s.first = time.Now()
	}
	generating := time.Since(s.first).Seconds()
	rate := "-"
	switch {
	case s.pieces > 1 && generating > 0:
		rate = fmt.Sprintf("%.1f", float64(s.completion-1)/generating)
	case s.completion > 0: // all in one piece: the time to it is all there is
		rate = fmt.Sprintf("%.1f", float64(s.completion)/total.Seconds())
	}
	a.say("[%d prompt + %d answer tokens, first token %d ms, %s tok/s, %.1f s, %s]", s.prompt, s.completion, s.first.Sub(start).Milliseconds(), rate, total.Seconds(), s.finish)
	return s.text.String(), nil
}

// answerStream reads the events of a chat completion and prints the text as it comes.
type answerStream struct {
	out                io.Writer
	text               strings.Builder
	first              time.Time
	prompt, completion int
	pieces             int // events with text
	finish             string
}

func (s *answerStream) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:")); ok {
			data = bytes.TrimSpace(data)
			if string(data) == "[DONE]" {
				return nil
			}
			if e := s.event(data); e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			if s.finish == "" {
				return ErrStream.With("the connection closed before the answer ended")
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *answerStream) event(data []byte) error {
	var e struct {
		Choices []struct {
			Delta        struct{ Content string }
			FinishReason *string `json:"finish_reason"`
		}
		Usage *struct {
			PromptTokens     int `json:"prompt_tokens"`
			CompletionTokens int `json:"completion_tokens"`
		}
		Error *struct{ Message, Code string }
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return ErrAnswer.With("an event of the stream is not JSON")
	}
	if e.Error != nil {
		return ErrStream.With("%s (%s)", e.Error.Message, e.Error.Code)
	}
	if e.Usage != nil {
		s.prompt, s.completion = e.Usage.PromptTokens, e.Usage.CompletionTokens
	}
	for _, c := range e.Choices {
		if c.Delta.Content != "" {
			if s.first.IsZero() {
				s.first = time.Now()
			}
			s.pieces++
			s.text.WriteString(c.Delta.Content)
			if _, err := io.WriteString(s.out, c.Delta.Content); err != nil {
				return err
			}
		}
		if c.FinishReason != nil {
			s.finish = *c.FinishReason
		}
	}
	return nil
}
