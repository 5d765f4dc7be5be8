import type { Snippet } from '@/ui/CodeSnippet.vue'

export interface ChatCall { model: string; messages: { role: string; content: string }[]; stream?: boolean; parameters?: Record<string, unknown> }

/** The address that client programs use: where this page came from. */
export const baseUrl = (): string => `${location.origin}/v1`

const indent = (text: string, by: string): string => text.split('\n').map((l, i) => (i ? by + l : l)).join('\n')
const python = (v: unknown): string => {
  if (Array.isArray(v)) return `[${v.map(python).join(', ')}]`
  if (v && typeof v === 'object') return `{${Object.entries(v).map(([k, x]) => `${JSON.stringify(k)}: ${python(x)}`).join(', ')}}`
  return v === true ? 'True' : v === false ? 'False' : v === null ? 'None' : JSON.stringify(v)
}
/** One line where it is short, so that it pastes well. */
const json = (v: unknown): string => {
  const line = JSON.stringify(v)
  return line.length <= 140 ? line : JSON.stringify(v, null, 2)
}
const shell = (text: string): string => text.replace(/'/g, `'\\''`)

/** The same call in four languages, against this server, with the key from the environment. */
export function chatSnippets(call: ChatCall): Snippet[] {
  const { model, messages, parameters = {}, stream = true } = call
  const body = { model, messages, ...parameters, ...(stream ? { stream: true } : {}) }
  const url = baseUrl()
  const named = Object.entries(parameters)
  const goNames: Record<string, (v: unknown) => string> = {
    temperature: (v) => `Temperature: openai.Float(${Number(v)})`,
    top_p: (v) => `TopP: openai.Float(${Number(v)})`,
    max_tokens: (v) => `MaxTokens: openai.Int(${Number(v)})`,
    seed: (v) => `Seed: openai.Int(${Number(v)})`,
    frequency_penalty: (v) => `FrequencyPenalty: openai.Float(${Number(v)})`,
    presence_penalty: (v) => `PresencePenalty: openai.Float(${Number(v)})`,
  }
  const goRole: Record<string, string> = { system: 'SystemMessage', user: 'UserMessage', assistant: 'AssistantMessage' }
  return [
    { label: 'curl', language: 'bash', code: `curl ${url}/chat/completions \\\n  -H "Authorization: Bearer $MAAS_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${shell(json(body))}'` },
    {
      label: 'Python', language: 'python',
      code: `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${url}", api_key=os.environ["MAAS_API_KEY"])\n\n${stream ? 'stream' : 'answer'} = client.chat.completions.create(\n    model=${JSON.stringify(model)},\n    messages=[\n${messages.map((m) => `        ${python(m)},`).join('\n')}\n    ],\n${named.map(([k, v]) => `    ${k}=${python(v)},\n`).join('')}${stream ? '    stream=True,\n' : ''})\n${stream ? 'for chunk in stream:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)' : 'print(answer.choices[0].message.content)'}`,
    },
    {
      label: 'TypeScript', language: 'typescript',
      code: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${url}", apiKey: process.env.MAAS_API_KEY });\n\nconst ${stream ? 'stream' : 'answer'} = await client.chat.completions.create(${indent(JSON.stringify(body, null, 2).replace(/"(\w+)":/g, '$1:'), '')});\n${stream ? 'for await (const chunk of stream) {\n  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}' : 'console.log(answer.choices[0]?.message.content);'}`,
    },
    {
      label: 'Go', language: 'go',
      code: `package main\n\nimport (\n\t"context"\n\t"fmt"\n\t"os"\n\n\t"github.com/openai/openai-go/v3"\n\t"github.com/openai/openai-go/v3/option"\n)\n\nfunc main() {\n\tclient := openai.NewClient(option.WithBaseURL("${url}"), option.WithAPIKey(os.Getenv("MAAS_API_KEY")))\n\tstream := client.Chat.Completions.NewStreaming(context.Background(), openai.ChatCompletionNewParams{\n\t\tModel: ${JSON.stringify(model)},\n\t\tMessages: []openai.ChatCompletionMessageParamUnion{\n${messages.map((m) => `\t\t\topenai.${goRole[m.role] ?? 'UserMessage'}(${JSON.stringify(m.content)}),`).join('\n')}\n\t\t},\n${named.filter(([k]) => goNames[k]).map(([k, v]) => `\t\t${goNames[k]!(v)},\n`).join('')}\t})\n\tfor stream.Next() {\n\t\tif c := stream.Current().Choices; len(c) > 0 {\n\t\t\tfmt.Print(c[0].Delta.Content)\n\t\t}\n\t}\n\tif err := stream.Err(); err != nil {\n\t\tfmt.Fprintln(os.Stderr, err)\n\t\tos.Exit(1)\n\t}\n}`,
    },
  ]
}
