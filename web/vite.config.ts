import { resolve } from 'node:path'
import { defineConfig } from 'vitest/config'
import vue from '@vitejs/plugin-vue'
import ui from '@nuxt/ui/vite'
import i18n from '@intlify/unplugin-vue-i18n/vite'
import { consolePage, noInjectedCss, precompress, rekaNamespaces, staticColours } from './build/plugins.ts'
import { theme } from './src/app.theme.ts'

const server = process.env.MAAS_URL ?? 'http://127.0.0.1:8080'
const inUi = /node_modules\/(@nuxt\/ui|reka-ui|@vueuse|tailwind-|@floating-ui|@iconify|@internationalized|vaul-vue|@tanstack|defu|ohash|scule|hookable|aria-hidden|@vueuse)|plugin-vue:export-helper/
const inVue = /node_modules\/(vue|@vue|vue-router|pinia|@pinia|vue-i18n|@intlify|unhead|@unhead|vue-demi)\//

export default defineConfig({
  plugins: [
    staticColours(),
    noInjectedCss(),
    rekaNamespaces(),
    vue(),
    ui({ colorMode: false, dts: true, icon: { clientBundle: { scan: { globInclude: ['src/**/*.{vue,ts}'] } } }, ui: theme }),
    i18n({ include: resolve(import.meta.dirname, 'src/**/locales/*.json'), runtimeOnly: true, dropMessageCompiler: true, compositionOnly: true, fullInstall: false, strictMessage: false }),
    consolePage(),
    precompress(),
  ],
  resolve: { alias: { '@': resolve(import.meta.dirname, 'src') } },
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    emptyOutDir: false,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 800,
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: 'vue', test: inVue, priority: 20 },
            { name: 'ui', test: inUi, minShareCount: 4, priority: 10 },
          ],
        },
      },
    },
  },
  server: {
    proxy: {
      '/api': { target: server, ws: true },
      '/v1': { target: server, ws: true },
      '/branding.css': server,
      '/manifest.webmanifest': server,
      '/readyz': server,
    },
  },
  test: { environment: 'happy-dom', include: ['src/**/*.test.ts'], setupFiles: ['src/test.setup.ts'] },
})
