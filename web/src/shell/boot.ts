import { reactive } from 'vue'
import type { Problem } from '@/api/problem'

/** What the window shows before and beside the pages: ready after the first of them, a problem when none can be shown. */
export const boot = reactive({ ready: false, problem: null as Problem | null, retry: (() => undefined) as () => void })
