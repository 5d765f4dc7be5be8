// Command clients is the usual program of an openai-go user, unchanged, against the built binary. Environment: OPENAI_BASE_URL, OPENAI_API_KEY; MODEL, the demo model; AGENTS, models behind providers of both
// dialects; EMBED, MODERATION. It prints one line per check and exits non-zero at the first that fails.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

var passed int

func check(name string, ok bool, seen any) {
	if !ok {
		fmt.Printf("FAILED %s: %+v\n", name, seen)
		os.Exit(1)
	}
	passed++
	fmt.Println("ok", name)
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
	return v
}

func main() {
	ctx := context.Background()
	client := openai.NewClient()
	model := os.Getenv("MODEL")
	list := must(client.Models.List(ctx))
	found := false
	for _, m := range list.Data {
		found = found || m.ID == model
	}
	check("models.list", found, list)
	hi := []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}
	whole := must(client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: model, Messages: hi, Temperature: openai.Float(0)}))
	text := whole.Choices[0].Message.Content
	check("chat", len(text) > 20 && whole.Choices[0].FinishReason == "stop" && whole.Usage.TotalTokens == whole.Usage.PromptTokens+whole.Usage.CompletionTokens, whole)

	stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{Model: model, Messages: hi, Temperature: openai.Float(0), StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}})
	all := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	check("stream", stream.Err() == nil && all.Choices[0].Message.Content == text && all.Usage.CompletionTokens == whole.Usage.CompletionTokens, stream.Err())

	r := must(client.Responses.New(ctx, responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")}, Temperature: openai.Float(0)}))
	check("responses", r.OutputText() == text && r.Status == "completed" && r.Usage.OutputTokens == whole.Usage.CompletionTokens, r)
	rs := client.Responses.NewStreaming(ctx, responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hi")}, Temperature: openai.Float(0)})
	var joined strings.Builder
	last := ""
	for rs.Next() {
		last = rs.Current().Type
		if last == "response.output_text.delta" {
			joined.WriteString(rs.Current().Delta)
		}
	}
	check("responses: stream", rs.Err() == nil && joined.String() == text && last == "response.completed", rs.Err())

	for _, agent := range strings.Split(os.Getenv("AGENTS"), ",") {
		agentLoop(ctx, client, agent)
	}
	e := must(client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: os.Getenv("EMBED"), Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "abc"}}}))
	check("embeddings", len(e.Data) == 2 && e.Data[1].Embedding[0] == 3 && e.Usage.TotalTokens == 8, e)
	m := must(client.Moderations.New(ctx, openai.ModerationNewParams{Model: os.Getenv("MODERATION"), Input: openai.ModerationNewParamsInputUnion{OfString: openai.String("fight")}}))
	check("moderations", m.Results[0].Flagged, m)

	_, err := client.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{Model: "no-such", Messages: hi})
	var api *openai.Error
	check("unknown model", errors.As(err, &api) && api.StatusCode == 404 && api.Code == "model_not_found", err)
	fmt.Printf("%d passed, 0 failed\n", passed)
}

func agentLoop(ctx context.Context, client openai.Client, agent string) {
	turns := []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("You fix bugs."), openai.UserMessage("Fix the bug.")}
	var tools []openai.ChatCompletionToolUnionParam
	for _, name := range []string{"list_files", "read_file", "write_file"} {
		tools = append(tools, openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: name, Parameters: shared.FunctionParameters{"type": "object", "properties": map[string]any{"path": map[string]string{"type": "string"}}}}))
	}
	var called []string
	for range 10 {
		stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{Model: agent, Messages: turns, Tools: tools})
		all := openai.ChatCompletionAccumulator{}
		for stream.Next() {
			all.AddChunk(stream.Current())
		}
		if stream.Err() != nil {
			check("tool loop of "+agent, false, stream.Err())
		}
		m := all.Choices[0].Message
		turns = append(turns, m.ToParam())
		if len(m.ToolCalls) == 0 {
			check("tool loop of "+agent, m.Content == "I fixed main.py." && strings.Join(called, " ") == "list_files read_file write_file", m)
			return
		}
		for _, c := range m.ToolCalls {
			called = append(called, c.Function.Name)
			turns = append(turns, openai.ToolMessage("done", c.ID))
		}
	}
	check("tool loop of "+agent, false, "it does not end")
}
