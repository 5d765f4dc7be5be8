import { onBeforeUnmount, ref, shallowRef } from 'vue'
import { send } from '@/api/client'
import { Problem, readProblem, toProblem } from '@/api/problem'
import { readEvents } from '@/api/sse'
import type { ChatMessage, TokenUsage } from '@/api/types'
import type { Turn } from '@/ui/ChatView.vue'

export interface Parameters { temperature: number | null; top_p: number | null; max_tokens: number | null; seed: number | null; stop: string }
export const noParameters = (): Parameters => ({ temperature: null, top_p: null, max_tokens: null, seed: null, stop: '' })

/** What went over the wire for one answer. */
export interface Raw { request: unknown; response: string; requestId: string; status: number }

interface Chunk { choices?: { delta?: { content?: string | null; reasoning_content?: string | null }; finish_reason?: string | null }[]; usage?: TokenUsage | null; error?: { message?: string; code?: string | null } }

/** Only what was set: the deployment's defaults stand for the rest. */
export function bodyParameters(p: Parameters): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const k of ['temperature', 'top_p', 'max_tokens', 'seed'] as const) if (p[k] !== null && !Number.isNaN(p[k])) out[k] = p[k]
  const stop = p.stop.split('\n').map((s) => s.trim()).filter(Boolean).slice(0, 4)
  if (stop.length) out.stop = stop
  return out
}

/** Tokens per second after the first one; an answer that came in one piece is measured over the whole wait. */
export function rate(tokens: number, began: number, first: number, last: number): number | undefined {
  if (!first || tokens < 1) return undefined
  // Pieces that arrive together were made earlier: then only the whole wait says anything.
  return last - first > 100 && tokens > 1 ? ((tokens - 1) / (last - first)) * 1000 : (tokens / Math.max(last - began, 1)) * 1000
}

/** A conversation with one model: streams an answer, can be stopped, and can answer again. */
export function useChat() {
  const turns = shallowRef<Turn[]>([])
  const running = ref(false)
  const raws = new Map<string, Raw>()
  let control: AbortController | null = null
  let count = 0

  function messages(system: string): ChatMessage[] {
    const list: ChatMessage[] = system.trim() ? [{ role: 'system', content: system }] : []
    for (const x of turns.value) if (!x.problem && (x.content || x.role === 'user')) list.push({ role: x.role, content: x.content })
    return list
  }
  function change(id: string, part: Partial<Turn>): void {
    turns.value = turns.value.map((x) => (x.id === id ? { ...x, ...part } : x))
  }

  async function ask(text: string, model: string, system: string, parameters: Parameters): Promise<void> {
    if (running.value) return
    turns.value = [...turns.value, { id: `u${++count}`, role: 'user', content: text }]
    await answer(model, system, parameters)
  }
  /** Drops an answer and what followed it, and asks again. */
  async function retry(id: string, model: string, system: string, parameters: Parameters): Promise<void> {
    if (running.value) return
    const at = turns.value.findIndex((x) => x.id === id)
    if (at < 0) return
    turns.value = turns.value.slice(0, at)
    await answer(model, system, parameters)
  }

  async function answer(model: string, system: string, parameters: Parameters): Promise<void> {
    const id = `a${++count}`
    const request = { model, messages: messages(system), ...bodyParameters(parameters), stream: true, stream_options: { include_usage: true } }
    turns.value = [...turns.value, { id, role: 'assistant', content: '', model, running: true }]
    running.value = true
    control = new AbortController()
    const raw: Raw = { request, response: '', requestId: '', status: 0 }
    raws.set(id, raw)
    const began = performance.now()
    let first = 0
    let last = 0
    let pieces = 0
    let text = ''
    let frame = 0
    let finish = ''
    let usage: TokenUsage | null = null
    const draw = (): void => {
      frame = 0
      change(id, { content: text })
    }
    let problem: Problem | null = null
    try {
      const res = await send('POST', '/inference/chat', { body: request, signal: control.signal, headers: { Accept: 'text/event-stream' } })
      raw.status = res.status
      raw.requestId = res.headers.get('x-request-id') ?? ''
      if (!res.ok) throw await readProblem(res)
      for await (const event of readEvents(res)) {
        raw.response += `data: ${event.data}\n\n`
        if (event.data === '[DONE]') break
        const chunk = JSON.parse(event.data) as Chunk
        if (chunk.error) throw new Problem(res.status, chunk.error.code ?? 'stream_error', chunk.error.message ?? '', '', '', raw.requestId)
        const choice = chunk.choices?.[0]
        if (choice?.delta?.content) {
          last = performance.now()
          first ||= last
          pieces++
          text += choice.delta.content
          frame ||= requestAnimationFrame(draw)
        }
        if (choice?.finish_reason) finish = choice.finish_reason
        if (chunk.usage) usage = chunk.usage
      }
    } catch (e) {
      if (e instanceof DOMException && e.name === 'AbortError') finish = 'stopped'
      else problem = toProblem(e)
    }
    cancelAnimationFrame(frame)
    const tokens = usage?.completion_tokens ?? pieces
    change(id, {
      content: text, running: false, problem, finish: finish || undefined,
      ttft: first ? first - began : undefined,
      speed: rate(tokens, began, first, last),
      promptTokens: usage?.prompt_tokens, completionTokens: usage?.completion_tokens,
    })
    running.value = false
    control = null
  }
  const stop = (): void => control?.abort()
  function clear(): void {
    stop()
    turns.value = []
    raws.clear()
  }
  onBeforeUnmount(stop)
  return { turns, running, ask, retry, stop, clear, messages, raw: (id: string) => raws.get(id) }
}
