import MarkdownIt from 'markdown-it'
import { escapeHtml, highlight } from './highlight'

const md = new MarkdownIt({ html: false, linkify: true, breaks: true })
const safe = /^(https?:|mailto:)/i
md.validateLink = (url) => safe.test(url.trim())

md.renderer.rules.link_open = (tokens, i, options, _, self) => {
  tokens[i]!.attrSet('target', '_blank')
  tokens[i]!.attrSet('rel', 'noopener nofollow')
  return self.renderToken(tokens, i, options)
}
// A picture of another origin would send what is in its address to that origin: it is shown as a link.
md.renderer.rules.image = (tokens, i) => {
  const src = String(tokens[i]!.attrGet('src') ?? '')
  const text = tokens[i]!.content || src
  return `<a href="${escapeHtml(src)}" target="_blank" rel="noopener nofollow">${escapeHtml(text)}</a>`
}
// Answers stand below the page's own headings.
md.renderer.rules.heading_open = (tokens, i) => `<h${level(tokens[i]!.tag)}>`
md.renderer.rules.heading_close = (tokens, i) => `</h${level(tokens[i]!.tag)}>`
function level(tag: string): number {
  return Math.min(6, Number(tag.slice(1)) + 2)
}
// Alignment as a class: a style attribute would break the page's policy.
for (const rule of ['th_open', 'td_open'] as const) {
  md.renderer.rules[rule] = (tokens, i, options, _, self) => {
    const style = String(tokens[i]!.attrGet('style') ?? '')
    const attrs = (tokens[i]!.attrs ?? []).filter(([name]) => name !== 'style')
    tokens[i]!.attrs = attrs
    if (style.includes('center')) tokens[i]!.attrJoin('class', 'to-center')
    if (style.includes('right')) tokens[i]!.attrJoin('class', 'to-right')
    return self.renderToken(tokens, i, options)
  }
}
md.renderer.rules.table_open = () => '<div class="md-table" tabindex="0"><table>'
md.renderer.rules.table_close = () => '</table></div>'
const block = (code: string, info: string): string => {
  const language = /^[\w+#-]{1,20}/.exec(info.trim())?.[0]?.toLowerCase() ?? ''
  return `<div class="md-code"><div class="md-code-head"><span>${escapeHtml(language)}</span><button type="button" data-copy></button></div><pre tabindex="0"><code>${highlight(code, language)}</code></pre></div>`
}
md.renderer.rules.fence = (tokens, i) => block(tokens[i]!.content, tokens[i]!.info)
md.renderer.rules.code_block = (tokens, i) => block(tokens[i]!.content, '')

/** One top-level block of a text: its source and its HTML. */
export interface Block { key: number; source: string; html: string }

/**
 * Cuts text into top-level blocks by the parser's own line ranges and renders those whose source changed since `before`. While a text only grows, every block but the last stays the same object.
 * Reference links are resolved over the whole text.
 */
export function renderBlocks(text: string, before: Block[] = []): Block[] {
  const env = {}
  const tokens = md.parse(text, env)
  const lines = text.split('\n')
  const out: Block[] = []
  let start = 0
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!
    if (token.level !== 0 || token.nesting > 0) continue
    const open = tokens[start]!
    const source = open.map ? lines.slice(open.map[0], open.map[1]).join('\n') : token.content
    const key = out.length
    const old = before[key]
    out.push(old && old.source === source ? old : { key, source, html: md.renderer.render(tokens.slice(start, i + 1), md.options, env) })
    start = i + 1
  }
  return out
}
