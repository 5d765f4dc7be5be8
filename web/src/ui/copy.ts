import { ref } from 'vue'

/** Copies text and says so for a moment. Without the clipboard API (plain http) it falls back to a selected field. */
export function useCopy() {
  const copied = ref(false)
  let timer = 0
  async function copy(text: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text)
    } catch {
      const area = document.createElement('textarea')
      area.value = text
      area.setAttribute('readonly', '')
      area.className = 'fixed top-0 opacity-0'
      document.body.append(area)
      area.select()
      document.execCommand('copy')
      area.remove()
    }
    copied.value = true
    clearTimeout(timer)
    timer = window.setTimeout(() => (copied.value = false), 1600)
  }
  return { copied, copy }
}
