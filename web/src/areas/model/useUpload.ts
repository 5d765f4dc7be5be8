import { computed, onBeforeUnmount, reactive, ref, shallowRef } from 'vue'
import { get, post, seg } from '@/api/client'
import { toProblem, type Problem } from '@/api/problem'
import { useInvalidate } from '@/api/query'
import { useSession } from '@/api/session'
import type { Model, ModelVersion } from '@/api/types'
import { uploadFile, type RunningUpload } from '@/api/upload'
import type { PickedFile } from '@/ui/DropZone.vue'

export type FileState = 'waiting' | 'hashing' | 'sending' | 'done' | 'paused' | 'failed'
export interface FileRow { path: string; file: File; size: number; state: FileState; hashed: number; sent: number; uploadId: string; problem: Problem | null }
type Phase = 'choose' | 'running' | 'paused' | 'finishing' | 'failed'

const place = 'maas.upload'
const parallel = 3
const noise = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$)/

export interface Interrupted { name: string; files: number; at: number }

/** What an earlier visit left unfinished: the files must be chosen again, the bytes need not be sent again. */
export function interrupted(): Interrupted | null {
  try {
    const saved = JSON.parse(localStorage.getItem(place) ?? 'null') as Interrupted | null
    return saved && Date.now() - saved.at < 24 * 3600_000 ? saved : null
  } catch {
    return null
  }
}

function mark(value: Interrupted | null): void {
  try {
    if (value) localStorage.setItem(place, JSON.stringify(value))
    else localStorage.removeItem(place)
  } catch {
    // Without storage an upload lives as long as its page.
  }
}

/** A model name as the server takes it, from a folder's or a file's name. */
export function nameFrom(text: string): string {
  return text.replace(/\.(gguf|safetensors)$/i, '').replace(/-0+1-of-0+\d+$/, '').toLowerCase().replace(/[^a-z0-9._-]+/g, '-').replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '').slice(0, 96)
}

export function useUpload(existing: string) {
  const session = useSession()
  const invalidate = useInvalidate()
  const files = ref<FileRow[]>([])
  const resumed = interrupted()?.name
  const form = reactive({ name: existing, description: '', message: '' })
  const phase = ref<Phase>('choose')
  const problem = shallowRef<Problem | null>(null)
  const speed = ref(0)
  const running = new Map<string, RunningUpload>()
  let model: Model | null = null
  let sentBefore = 0
  let meter = 0

  const total = computed(() => files.value.reduce((a, f) => a + f.size, 0))
  const sent = computed(() => files.value.reduce((a, f) => a + f.sent, 0))
  const eta = computed(() => (speed.value > 0 ? ((total.value - sent.value) / speed.value) * 1000 : undefined))

  function pick(list: PickedFile[], folder: string): void {
    const known = new Set(files.value.map((f) => f.path))
    for (const { file, path } of list) {
      if (noise.test(path) || known.has(path)) continue
      files.value.push({ path, file, size: file.size, state: 'waiting', hashed: 0, sent: 0, uploadId: '', problem: null })
    }
    files.value.sort((a, b) => a.path.localeCompare(b.path))
    const weights = files.value.find((f) => /\.(gguf|safetensors)$/i.test(f.path))
    form.name ||= nameFrom(folder || weights?.path.split('/').pop() || files.value[0]?.path || '')
  }
  function drop(path: string): void {
    files.value = files.value.filter((f) => f.path !== path)
  }

  /** The model that the files belong to: the one that was opened or whose upload goes on, else a new one. A name that somebody else took is a problem to show. */
  async function target(): Promise<Model> {
    if (existing || resumed === form.name) {
      const found = await get<Model>(`/models/${seg(form.name)}`).catch((e: unknown) => {
        if (!existing && toProblem(e).status === 404) return null
        throw e
      })
      if (found) return found
    }
    return post<Model>('/models', { name: form.name, ...(form.description ? { description: form.description } : {}) })
  }

  async function one(row: FileRow, id: string): Promise<void> {
    row.state = 'hashing'
    row.problem = null
    const up = uploadFile(row.file, row.path, id, {
      hashed: (n) => (row.hashed = n),
      sent: (n) => {
        row.state = 'sending'
        row.sent = n
      },
      token: session.freshToken,
    })
    running.set(row.path, up)
    try {
      row.uploadId = await up.finished
      row.sent = row.size
      row.state = 'done'
    } catch (e) {
      if (e instanceof DOMException) row.state = 'paused'
      else {
        row.problem = toProblem(e)
        row.state = 'failed'
      }
    } finally {
      running.delete(row.path)
    }
  }

  /** Sends what is not sent yet, three at once, then makes the version. Returns it, or nothing when it was paused or failed. */
  async function start(): Promise<ModelVersion | undefined> {
    problem.value = null
    phase.value = 'running'
    mark({ name: form.name, files: files.value.length, at: Date.now() })
    sentBefore = sent.value
    meter = window.setInterval(() => {
      speed.value = speed.value * 0.6 + Math.max(0, sent.value - sentBefore) * 0.4
      sentBefore = sent.value
    }, 1000)
    try {
      model ??= await target()
      const todo = files.value.filter((f) => f.state !== 'done')
      const next = async (): Promise<void> => {
        for (let row = todo.shift(); row && phase.value === 'running'; row = todo.shift()) await one(row, model!.id)
      }
      await Promise.all(Array.from({ length: parallel }, next))
      if ((phase.value as Phase) === 'paused') return undefined
      if (files.value.some((f) => f.state !== 'done')) {
        phase.value = 'failed'
        return undefined
      }
      phase.value = 'finishing'
      const version = await post<ModelVersion>(`/models/${seg(form.name)}/versions`, { ...(form.message ? { message: form.message } : {}), files: files.value.map((f) => ({ path: f.path, upload_id: f.uploadId })) })
      mark(null)
      await invalidate(['model'])
      return version
    } catch (e) {
      problem.value = toProblem(e)
      phase.value = 'failed'
      return undefined
    } finally {
      clearInterval(meter)
      speed.value = 0
    }
  }
  function pause(): void {
    phase.value = 'paused'
    for (const up of running.values()) up.stop()
  }
  const leave = (e: BeforeUnloadEvent): void => {
    if (phase.value === 'running' || phase.value === 'finishing') e.preventDefault()
  }
  addEventListener('beforeunload', leave)
  onBeforeUnmount(() => {
    removeEventListener('beforeunload', leave)
    if (phase.value === 'running') pause()
    clearInterval(meter)
  })
  return { files, form, phase, problem, speed, total, sent, eta, pick, drop, start, pause }
}
