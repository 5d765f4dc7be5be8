package chat

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// answer is what deltas add up to.
type answer struct {
	Content, Reasoning string
	Calls              []FunctionCall
	Broken             bool
}

func collect(tb testing.TB, p *Parser, pieces []string) answer {
	tb.Helper()
	var a answer
	take := func(ds []Delta) {
		for _, d := range ds {
			a.Content += d.Content
			a.Reasoning += d.Reasoning
			if c := d.ToolCall; c != nil {
				if c.Index == len(a.Calls) {
					require.NotEmpty(tb, c.ID)
					require.NotEmpty(tb, c.Name)
					a.Calls = append(a.Calls, FunctionCall{Name: c.Name})
				}
				a.Calls[c.Index].Arguments += c.Arguments
			}
		}
	}
	for _, s := range pieces {
		take(p.Push(s))
	}
	take(p.Close())
	a.Broken = p.Broken()
	require.Len(tb, a.Calls, p.ToolCalls())
	return a
}

var coderTools = []json.RawMessage{json.RawMessage(`{"type":"function","function":{"name":"put","parameters":{"properties":{"text":{"type":"string"},"n":{"type":"integer"}}}}}`)}

func TestParser(t *testing.T) {
	t.Parallel()
	graz := FunctionCall{"weather", `{"city": "Graz"}`}
	long := `{"name": "in here", "text": "` + strings.Repeat(`a {\" \n`, 100) + `", "list": [1, {"name": "no"}]}`
	for name, c := range map[string]struct {
		format Format
		tools  bool
		prompt string
		text   string
		want   answer
	}{
		"plain":             {Format{}, false, "", "Hello <tool_call> world", answer{Content: "Hello <tool_call> world"}},
		"tools not offered": {Format{Tools: "hermes"}, false, "", `<tool_call>{"name":"x"}</tool_call>`, answer{Content: `<tool_call>{"name":"x"}</tool_call>`}},
		"white space":       {Format{Tools: "hermes"}, true, "", "  a \n\n", answer{Content: "  a \n\n"}},
		"think":             {Format{Reasoning: true}, false, "", "<think>\nhm, 2\n</think>\n\nfour\n", answer{Content: "four\n", Reasoning: "hm, 2"}},
		"think in prompt":   {Format{Reasoning: true}, false, "<assistant><think>\n", "hm</think>four", answer{Content: "four", Reasoning: "hm"}},
		"think cut off":     {Format{Reasoning: true}, false, "", "<think>so < th \n", answer{Reasoning: "so < th"}},
		"no thought":        {Format{Reasoning: true}, false, "", "<think>\n\n</think>\n\nfour", answer{Content: "four"}},
		"almost think":      {Format{Reasoning: true}, false, "", "<thin", answer{Content: "<thin"}},
		"think later":       {Format{Reasoning: true}, false, "", "a <think>b</think>", answer{Content: "a <think>b</think>"}},
		"hermes": {
			Format{Tools: "hermes", Reasoning: true},
			true, "", "<think>x</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Graz\"}}\n</tool_call>",
			answer{Content: "Let me see.", Reasoning: "x", Calls: []FunctionCall{graz}},
		},
		"hermes two": {
			Format{Tools: "hermes"},
			true, "", "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Graz\"}}</tool_call>\n<tool_call>\n{\"arguments\": {\"a\": \"</tool_call> } \\\" {\"}, \"name\": \"b\"}\n</tool_call>\n",
			answer{Calls: []FunctionCall{graz, {"b", `{"a": "</tool_call> } \" {"}`}}},
		},
		"hermes long":            {Format{Tools: "hermes"}, true, "", "Ok.\n<tool_call>\n{\"name\": \"put\", \"arguments\": " + long + "}\n</tool_call> <tool_call>{\"name\": \"now\"}", answer{Content: "Ok.", Calls: []FunctionCall{{"put", long}, {"now", "{}"}}}},
		"hermes long, name last": {Format{Tools: "hermes"}, true, "", "<tool_call>{\"arguments\": " + long + ", \"name\": \"put\"}</tool_call>", answer{Calls: []FunctionCall{{"put", long}}}},
		"hermes long, cut off":   {Format{Tools: "hermes"}, true, "", "<tool_call>{\"name\": \"put\", \"arguments\": " + long[:600], answer{Calls: []FunctionCall{{"put", long[:600]}}, Broken: true}},
		"hermes long, broken":    {Format{Tools: "hermes"}, true, "", "<tool_call>{\"name\": \"put\", \"arguments\": " + long + " oh}</tool_call> so", answer{Content: "</tool_call> so", Calls: []FunctionCall{{"put", long}}, Broken: true}},
		"llama3 long":            {Format{Tools: "llama3"}, true, "", "{\"name\": \"put\", \"parameters\": " + long + "}", answer{Calls: []FunctionCall{{"put", long}}}},
		"llama3 long JSON":       {Format{Tools: "llama3"}, true, "", long, answer{Content: long, Broken: true}},
		"hermes no arguments":    {Format{Tools: "hermes"}, true, "", `<tool_call>{"name": "now"}`, answer{Calls: []FunctionCall{{"now", "{}"}}}},
		"hermes text after":      {Format{Tools: "hermes"}, true, "", "<tool_call>{\"name\": \"now\"}</tool_call>\n\nDone.\n", answer{Content: "Done.\n", Calls: []FunctionCall{{"now", "{}"}}}},
		"hermes in string":       {Format{Tools: "hermes"}, true, "", `<tool_call>{"name": "now", "arguments": "{\"a\": 1}"}</tool_call>`, answer{Calls: []FunctionCall{{"now", `{"a": 1}`}}}},
		"hermes cut off":         {Format{Tools: "hermes"}, true, "", "x <tool_call>\n{\"name\": \"wea", answer{Content: "x <tool_call>\n{\"name\": \"wea", Broken: true}},
		"hermes broken":          {Format{Tools: "hermes"}, true, "", "<tool_call>{\"name\": weather}</tool_call> ok", answer{Content: "<tool_call>{\"name\": weather}</tool_call> ok", Broken: true}},
		"hermes talked about":    {Format{Tools: "hermes"}, true, "", "Use <tool_call> tags", answer{Content: "Use <tool_call> tags", Broken: true}},
		"granite":                {Format{Tools: "granite"}, true, "", `<|tool_call|>[{"name": "weather", "arguments": {"city": "Graz"}}, {"name": "now"}]`, answer{Calls: []FunctionCall{graz, {"now", "{}"}}}},
		"nemotron":               {Format{Tools: "nemotron"}, true, "", "<TOOLCALL>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Graz\"}}]</TOOLCALL>\n", answer{Calls: []FunctionCall{graz}}},
		"hermes list":            {Format{Tools: "hermes"}, true, "", `<tool_call>[{"name": "weather", "arguments": {"city": "Graz"}}]</tool_call>`, answer{Calls: []FunctionCall{graz}}},
		"think in brackets":      {Format{Tools: "mistral", Reasoning: true}, true, "", "[THINK]hm[/THINK]four", answer{Content: "four", Reasoning: "hm"}},
		"list, not thought":      {Format{Reasoning: true}, false, "", "[TH, 1]", answer{Content: "[TH, 1]"}},
		"llama3":                 {Format{Tools: "llama3"}, true, "", `{"name": "weather", "parameters": {"city": "Graz"}}`, answer{Calls: []FunctionCall{graz}}},
		"llama3 two":             {Format{Tools: "llama3"}, true, "", `{"name": "weather", "parameters": {"city": "Graz"}}; {"name": "now", "parameters": {}}`, answer{Calls: []FunctionCall{graz, {"now", "{}"}}}},
		"llama3 tag":             {Format{Tools: "llama3"}, true, "", `<|python_tag|>{"name": "weather", "parameters": {"city": "Graz"}}`, answer{Calls: []FunctionCall{graz}}},
		"llama3 other JSON":      {Format{Tools: "llama3"}, true, "", `{"a": 1} and more`, answer{Content: `{"a": 1} and more`, Broken: true}},
		"llama3 person":          {Format{Tools: "llama3"}, true, "", `{"name": "Bob"}`, answer{Content: `{"name": "Bob"}`, Broken: true}},
		"llama3 text":            {Format{Tools: "llama3"}, true, "", `The answer is {"name": "x"}`, answer{Content: `The answer is {"name": "x"}`}},
		"mistral list":           {Format{Tools: "mistral"}, true, "", `[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Graz"}}, {"name": "now", "arguments": {}}]`, answer{Calls: []FunctionCall{graz, {"now", "{}"}}}},
		"mistral args":           {Format{Tools: "mistral"}, true, "", `Ok.[TOOL_CALLS]weather[ARGS]{"city": "Graz"}[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{}`, answer{Content: "Ok.", Calls: []FunctionCall{graz, {"now", "{}"}}}},
		"deepseek":               {Format{Tools: "deepseek"}, true, "", dsCalls + dsCall + "function" + dsSep + "weather\n```json\n{\"city\": \"Graz\"}\n```" + dsCallEnd + "\n" + dsCall + "function" + dsSep + "now\n```json\n{}\n```" + dsCallEnd + dsCallsEnd, answer{Calls: []FunctionCall{graz, {"now", "{}"}}}},
		"deepseek 3.1":           {Format{Tools: "deepseek"}, true, "", "Hm." + dsCalls + dsCall + "weather" + dsSep + `{"city": "Graz"}` + dsCallEnd + dsCallsEnd, answer{Content: "Hm.", Calls: []FunctionCall{graz}}},
		"coder":                  {Format{Tools: "qwen-coder"}, true, "", "<tool_call>\n<function=put>\n<parameter=text>\n12\n</parameter>\n<parameter=n>\n7\n</parameter>\n<parameter=list>\n[1, \"a\"]\n</parameter>\n</function>\n</tool_call>", answer{Calls: []FunctionCall{{"put", `{"text":"12","n":7,"list":[1, "a"]}`}}}},
		"coder bare":             {Format{Tools: "qwen-coder"}, true, "", "<function=put><parameter=text>a\nb</parameter></function>", answer{Calls: []FunctionCall{{"put", `{"text":"a\nb"}`}}}},
		"coder writes hermes":    {Format{Tools: "qwen-coder"}, true, "", "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Graz\"}}\n</tool_call>", answer{Calls: []FunctionCall{graz}}},
		"glm":                    {Format{Tools: "glm"}, true, "", "<tool_call>put\n<arg_key>text</arg_key>\n<arg_value>12</arg_value>\n<arg_key>n</arg_key>\n<arg_value>7</arg_value>\n</tool_call>", answer{Calls: []FunctionCall{{"put", `{"text":"12","n":7}`}}}},
		"glm without argument":   {Format{Tools: "glm"}, true, "", "<tool_call>now</tool_call>", answer{Calls: []FunctionCall{{"now", `{}`}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(pieces []string) answer {
				p := NewParser(c.format, c.tools, c.prompt)
				p.Tools(coderTools)
				return collect(t, p, pieces)
			}
			require.Equal(t, c.want, run([]string{c.text}))
			for i := range c.text { // cut everywhere
				require.Equal(t, c.want, run([]string{c.text[:i], c.text[i:]}), "cut at %d", i)
			}
			require.Equal(t, c.want, run(strings.Split(c.text, "")), "rune by rune")
			for _, call := range c.want.Calls {
				if c.want.Broken {
					continue
				}
				require.True(t, json.Valid([]byte(call.Arguments)), call.Arguments)
			}
		})
	}
}

// TestParserShowsTextEarly: content and reasoning do not wait for the end.
func TestParserShowsTextEarly(t *testing.T) {
	t.Parallel()
	p := NewParser(Format{Tools: "hermes", Reasoning: true}, true, "")
	require.Empty(t, p.Push("<think>"))
	require.Equal(t, []Delta{{Reasoning: "so"}}, p.Push("so "))
	require.Equal(t, []Delta{{Reasoning: " it"}}, p.Push("it</th"))
	require.Empty(t, p.Push("ink>\n"))
	require.Equal(t, []Delta{{Content: "is"}}, p.Push("\nis "))
	require.Equal(t, []Delta{{Content: " four."}}, p.Push("four.<tool_"))
	require.Equal(t, []Delta{{Content: "<tool_"}}, p.Close())
	p = NewParser(Format{Tools: "hermes"}, true, "")
	require.Empty(t, p.Push(`<tool_call>{"name": "put", "arguments": {"text": "`))
	ds := p.Push(strings.Repeat("x", 500))
	require.Len(t, ds, 2)
	require.Equal(t, "put", ds[0].ToolCall.Name)
	require.Equal(t, []Delta{{ToolCall: &ToolCallDelta{Arguments: "yz"}}}, p.Push("yz"))
	require.Equal(t, []Delta{{ToolCall: &ToolCallDelta{Arguments: `"}`}}}, p.Push(`"}}</tool_call>`))
	require.Empty(t, p.Close())
}

func TestFormatOf(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]Format{
		"{{ messages }}": {},
		"<tool_call>\n{\"name\": <function-name>} <think>": {"hermes", true},
		"<tool_call>\n<function=a>\n<parameter=b>":         {"qwen-coder", false},
		"[TOOL_CALLS]":                                            {"mistral", false},
		dsCalls + dsCall + "</think>":                             {"deepseek", true},
		"<|start_header_id|>{% if tools %}":                       {"llama3", false},
		"<tool_call>{{ name }}<arg_key>":                          {"glm", false},
		"<|im_start|>{{ message.role }}\n{{ content }}<|im_end|>": {},
	} {
		require.Equal(t, want, FormatOf(template), template)
	}
}

func FuzzParser(f *testing.F) {
	for _, s := range []string{"<think>a</think>b", `<tool_call>{"name":"a","arguments":{}}</tool_call>`, `{"name":"a","parameters":{}}; {`, `[TOOL_CALLS]a[ARGS]{}`, dsCalls + dsCall + "f" + dsSep + "{}" + dsCallEnd, "<tool_call><function=a><parameter=b>c</parameter></function></tool_call>", "<tool_call>a<arg_key>b</arg_key><arg_value>c</arg_value></tool_call>"} {
		f.Add(s, 3)
	}
	f.Add(`<tool_call>{"name":"a","arguments":{"b":"`+strings.Repeat("x", 600)+`"},"name":"c"}</tool_call>`, 560)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if len(text) > 1<<12 {
			return
		}
		for _, name := range order {
			whole := collect(t, NewParser(Format{name, true}, true, ""), []string{text})
			for _, c := range whole.Calls {
				if !whole.Broken && !json.Valid([]byte(c.Arguments)) {
					t.Fatalf("%s: %q gives arguments %q", name, text, c.Arguments)
				}
			}
			if cut < 0 || cut > len(text) {
				continue
			}
			if cutUp := collect(t, NewParser(Format{name, true}, true, ""), []string{text[:cut], text[cut:]}); fmt.Sprint(cutUp) != fmt.Sprint(whole) {
				t.Fatalf("%s: %q cut at %d: %+v, whole %+v", name, text, cut, cutUp, whole)
			}
		}
	})
}
