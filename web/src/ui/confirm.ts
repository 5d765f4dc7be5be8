import { computed, ref, shallowRef } from 'vue'

/** What a page asks before it does it: one dialog for all of them. */
export interface Question { title: string; text: string; confirm: string; typed?: string; danger?: boolean; run: () => Promise<unknown> }

/** Opens the confirmation with a question; it closes when its action came to something. */
export function useConfirm() {
  const asked = shallowRef<Question | null>(null)
  const busy = ref(false)
  const open = computed({ get: () => asked.value !== null, set: (o) => { if (!o) asked.value = null } })
  async function go(): Promise<void> {
    if (!asked.value || busy.value) return
    busy.value = true
    try {
      if (await asked.value.run()) asked.value = null
    } finally {
      busy.value = false
    }
  }
  return { asked, open, busy, ask: (q: Question) => void (asked.value = q), go }
}
