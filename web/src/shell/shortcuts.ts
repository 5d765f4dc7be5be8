import { onBeforeUnmount, onMounted, ref } from 'vue'
import { useRouter } from 'vue-router'
import { useMenu } from './menu'
import { usePalette } from './palette'

/** Whether the list of keys is shown. */
export const shortcutsShown = ref(false)

function typing(e: KeyboardEvent): boolean {
  const el = e.target as HTMLElement
  return el.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(el.tagName)
}

/** Ctrl/Cmd+K opens the palette; outside of fields `g` and a letter goes to a page, `/` goes to the search of the list, `?` lists the keys. */
export function useShortcuts(): void {
  const router = useRouter()
  const menu = useMenu()
  const palette = usePalette()
  let wentG = 0

  function down(e: KeyboardEvent): void {
    if ((e.metaKey || e.ctrlKey) && !e.shiftKey && !e.altKey && e.key.toLowerCase() === 'k') {
      e.preventDefault()
      palette.open.value = !palette.open.value
      return
    }
    if (e.metaKey || e.ctrlKey || e.altKey || e.isComposing || typing(e)) return
    if (wentG && Date.now() - wentG < 1200) {
      wentG = 0
      const entry = menu.value.flatMap((g) => g.entries).find((x) => x.key === e.key)
      if (entry) {
        e.preventDefault()
        void router.push(entry.path)
      }
      return
    }
    if (e.key === 'g') wentG = Date.now()
    else if (e.key === '?') shortcutsShown.value = palette.used.value = true
    else if (e.key === '/') {
      const field = document.querySelector<HTMLInputElement>('input[data-search], [data-search] input')
      if (field) {
        e.preventDefault()
        field.focus()
      }
    }
  }
  onMounted(() => addEventListener('keydown', down))
  onBeforeUnmount(() => removeEventListener('keydown', down))
}
