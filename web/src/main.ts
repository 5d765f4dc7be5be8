import './main.css'
import { createApp } from 'vue'
import { createPinia } from 'pinia'
import { PiniaColada } from '@pinia/colada'
import ui from '@nuxt/ui/vue-plugin'
import { setCustomIconsLoader } from '@iconify/vue'
import App from './shell/App.vue'
import { guard } from './shell/guard'
import { i18n } from './i18n'
import { makeRouter } from './router'
import { usePreferences } from './shell/preferences'
import { useSession } from './api/session'

// A name that is not in the bundle must never be asked of a public service.
setCustomIconsLoader((names) => {
  console.error(`icons not in the bundle: ${names.join(', ')}`)
  return null
}, 'lucide')

const app = createApp(App)
const router = makeRouter()
app.use(createPinia())
app.use(PiniaColada, {})
app.use(i18n)
const preferences = usePreferences()
useSession().connect(() => preferences.locale)
guard(router)
app.use(router)
app.use(ui)
// Mounted at once: the guard may wait for the server, and the shell then shows that it does.
app.mount('#app')
