import { inject, ref, type InjectionKey, type Ref } from 'vue'

/** What the parts of ui need to know of the person: the shell provides it. */
export interface UiContext { locale: Ref<string>; zone: Ref<string>; dark: Ref<boolean> }

export const uiContext: InjectionKey<UiContext> = Symbol('ui')

export function useUi(): UiContext {
  return inject(uiContext, () => ({ locale: ref('en'), zone: ref(''), dark: ref(false) }), true)
}

/** One clock for all relative times of the page. */
export const now = ref(Date.now())
if (typeof window !== 'undefined') setInterval(() => { if (!document.hidden) now.value = Date.now() }, 10_000)
