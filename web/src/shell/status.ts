import type { Tone } from '@/ui/StatusDot.vue'
import { useT, type Key } from '@/i18n'

const tones: Record<string, Tone> = {
  ready: 'success', running: 'busy', succeeded: 'success', active: 'success', pass: 'success', ok: 'success',
  warned: 'warning', degraded: 'warning', warn: 'warning', draining: 'warning', suspended: 'warning', expired: 'warning', backoff: 'warning', unhealthy: 'error',
  failed: 'error', rejected: 'error', reject: 'error', revoked: 'error', error: 'error', crashed: 'error', lost: 'error',
  pending: 'busy', validating: 'busy', starting: 'busy', updating: 'busy', deleting: 'busy', queued: 'busy', waiting: 'busy', stopping: 'busy', loading: 'busy', fitting: 'busy',
  stopped: 'idle', retired: 'idle', cancelled: 'idle', skip: 'idle', exited: 'idle', unknown: 'idle',
}

/** Dot and word of a state of any object; a state this console does not know is shown by its own name. */
export function useStatus() {
  const { t, has } = useT()
  return {
    tone: (s: string | undefined): Tone => tones[s ?? ''] ?? 'idle',
    label: (s: string | undefined): string => {
      const key = `shell.status.${s ?? 'unknown'}`
      return has(key) ? t(key as Key) : (s ?? '–')
    },
    /** While something is on its way the page looks again soon. */
    moving: (s: string | undefined): boolean => tones[s ?? ''] === 'busy' && s !== 'running',
  }
}
