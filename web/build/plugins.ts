// The four adjustments that let Nuxt UI run under a policy without inline styles. Each fails the build when the text it changes is gone, so that an update of a package cannot undo it in silence.
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Plugin } from 'vite'

const modules = resolve(import.meta.dirname, '../node_modules')

/** The colours are variables of main.css; the original plugin writes them into a style element at start. */
export function staticColours(): Plugin {
  const file = join(modules, '@nuxt/ui/dist/runtime/plugins/colors.js')
  return {
    name: 'maas:static-colours',
    enforce: 'pre',
    buildStart() {
      if (!existsSync(file) || !readFileSync(file, 'utf8').includes('generateShades')) this.error(`${file} is not what it was: look how Nuxt UI sets its colours now`)
    },
    load(id) {
      return id.split('?')[0] === file ? 'export default { install() {} }' : null
    },
  }
}

/** vaul-vue appends a style element when it is loaded; its rules stand in main.css where a drawer is used. */
export function noInjectedCss(): Plugin {
  const file = join(modules, 'vaul-vue/dist/index.js')
  const lead = '(function(){"use strict";'
  return {
    name: 'maas:no-injected-css',
    enforce: 'pre',
    buildStart() {
      if (!readFileSync(file, 'utf8').startsWith(lead)) this.error(`${file} no longer starts with its style injection: remove or mend this plugin`)
    },
    transform(code, id) {
      if (id.split('?')[0] !== file) return null
      return { code: code.slice(code.indexOf('\n') + 1), map: null }
    },
  }
}

/** One module that holds every namespace of reka-ui cannot be split, so each namespace becomes a module of its own. */
export function rekaNamespaces(): Plugin {
  const file = join(modules, 'reka-ui/dist/namespaced/index.mjs')
  const prefix = 'virtual:reka-namespace/'
  const importLine = /import\s*\{([^}]+)\}\s*from\s*["']reka-ui\/namespaced["'];?/g
  let parts = new Map<string, string>()
  return {
    name: 'maas:reka-namespaces',
    enforce: 'pre',
    buildStart() {
      parts = new Map([...readFileSync(file, 'utf8').matchAll(/const (\w+) = \{([^}]*)\}/g)].map((m) => [m[1]!, m[2]!]))
      if (!parts.has('Popover') || !parts.has('DropdownMenu')) this.error(`${file} has another form now`)
    },
    resolveId(id) {
      return id.startsWith(prefix) ? '\0' + id : null
    },
    load(id) {
      if (!id.startsWith('\0' + prefix)) return null
      const name = id.slice(prefix.length + 1)
      const body = parts.get(name)
      if (!body) this.error(`reka-ui has no namespace ${name}`)
      const names = [...new Set([...body!.matchAll(/:\s*(\w+)/g)].map((m) => m[1]!))]
      return `import { ${names.join(', ')} } from 'reka-ui'\nexport const ${name} = {${body}}\n`
    },
    transform(code, id) {
      if (!id.includes('@nuxt/ui') || !code.includes('reka-ui/namespaced')) return null
      const changed = code.replace(importLine, (_, list: string) =>
        list.split(',').map((item) => `import { ${item.trim()} } from '${prefix}${item.trim().split(/\s+/)[0]}';`).join(' '))
      return { code: changed, map: null }
    },
  }
}

/**
 * dist/index.html is the committed placeholder of a tree without a build, so the built page is named console.html and the folder is emptied of everything else.
 */
export function consolePage(): Plugin {
  let dist = ''
  return {
    name: 'maas:console-page',
    apply: 'build',
    enforce: 'post',
    configResolved(config) {
      dist = resolve(config.root, config.build.outDir)
    },
    buildStart() {
      if (!existsSync(dist)) return
      for (const name of readdirSync(dist)) if (name !== 'index.html') rmSync(join(dist, name), { recursive: true })
    },
    generateBundle: {
      order: 'post',
      handler(_, bundle) {
        const page = bundle['index.html']
        if (!page || page.type !== 'asset') this.error('the build made no index.html')
        else {
          const source = page.source
          delete bundle['index.html']
          this.emitFile({ type: 'asset', fileName: 'console.html', source })
        }
      },
    },
  }
}

/** Twins that the server sends as they are. */
export function precompress(): Plugin {
  let dist = ''
  return {
    name: 'maas:precompress',
    apply: 'build',
    enforce: 'post',
    configResolved(config) {
      dist = resolve(config.root, config.build.outDir)
    },
    closeBundle() {
      for (const file of walk(dist)) {
        if (!/\.(js|css|html|svg|json|txt)$/.test(file) || file === join(dist, 'index.html')) continue
        const raw = readFileSync(file)
        if (raw.length < 512) continue
        writeFileSync(file + '.br', brotliCompressSync(raw, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: raw.length } }))
        writeFileSync(file + '.gz', gzipSync(raw, { level: 9 }))
      }
    },
  }
}

function walk(dir: string): string[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir).flatMap((name) => {
    const path = join(dir, name)
    return statSync(path).isDirectory() ? walk(path) : [path]
  })
}
