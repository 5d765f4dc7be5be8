import { ref, watch } from 'vue'

const open = ref(false)
/** The palette's code is fetched at its first use and stays. */
const used = ref(false)
watch(open, (o) => {
  if (o) used.value = true
}, { flush: 'sync' })

export function usePalette() {
  return { open, used }
}
