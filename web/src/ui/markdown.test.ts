import { describe, expect, it } from 'vitest'
import { renderBlocks, type Block } from './markdown'

const html = (text: string): string => renderBlocks(text).map((b) => b.html).join('')

describe('renderBlocks', () => {
  it('shows HTML as text', () => {
    expect(html('<script>alert(1)</script> <b onclick="x()">hi</b>')).not.toMatch(/<script|<b /)
  })
  it('links only to the web and mail', () => {
    expect(html('[a](javascript:alert(1)) [b](data:text/html,x) [c](https://example.com)')).toMatch(/^<p>\[a\].*<a href="https:\/\/example.com" target="_blank" rel="noopener nofollow">c<\/a>/s)
    expect(html('[a](javascript:alert(1))')).not.toContain('<a')
  })
  it('never loads a picture of another origin', () => {
    const out = html('![secret](https://evil.example/?q=1)')
    expect(out).not.toContain('<img')
    expect(out).toContain('href="https://evil.example/?q=1"')
  })
  it('writes no style attribute, which the policy forbids', () => {
    const out = html('| a | b |\n| :-: | --: |\n| 1 | 2 |')
    expect(out).not.toContain('style=')
    expect(out).toContain('class="to-center"')
    expect(out).toContain('class="to-right"')
  })
  it('starts headings below the page\'s own', () => {
    expect(html('# Title\n\n###### Small')).toMatch(/<h3>.*<h6>/s)
  })
  it('escapes code of unknown languages and colours known ones', () => {
    expect(html('```nope\n<i>&\n```')).toContain('&lt;i&gt;&amp;')
    expect(html('```python\ndef f(): pass\n```')).toContain('hljs-keyword')
  })
  it('never changes a closed block while the text grows', () => {
    const text = '# One\n\nA paragraph with **bold** text.\n\n- loose\n\n- list\n\n  with text\n\n```python\nprint(1)\n\nprint(2)\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n> quote\n> more\n\n1. x\n2. y\n\nLast [link][r].\n\n[r]: https://example.com\n'
    let before: Block[] = []
    let closed: Block[] = []
    for (let n = 1; n <= text.length; n++) {
      const now = renderBlocks(text.slice(0, n), before)
      for (const [i, b] of closed.entries()) if (now.length > closed.length) expect(now[i], `block ${i} at ${n}`).toBe(b)
      if (now.length > 1) closed = now.slice(0, -1)
      else closed = []
      before = now
    }
    expect(before.length).toBeGreaterThan(5)
  })
})
