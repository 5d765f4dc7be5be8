import { mount } from '@vue/test-utils'
import ui from '@nuxt/ui/vue-plugin'
import { describe, expect, it } from 'vitest'
import { createMemoryHistory, createRouter } from 'vue-router'
import { i18n } from '@/i18n'
import words from './locales/en.json'
import DataTable from './DataTable.vue'
import ErrorState from './ErrorState.vue'
import ChatPrompt from './ChatPrompt.vue'

i18n.global.mergeLocaleMessage('en', { ui: words })
const router = createRouter({ history: createMemoryHistory(), routes: [{ path: '/', component: { template: '<i/>' } }] })
const global = { plugins: [router, i18n, ui] }

describe('DataTable', () => {
  const rows = [{ id: 'a', name: 'first', n: 1 }, { id: 'b', name: 'second', n: 2 }]
  const props = { label: 'Things', columns: [{ key: 'name', label: 'Name' }, { key: 'n', label: 'Count', align: 'right' as const }], rows, rowKey: (r: unknown) => (r as { id: string }).id }
  it('has a head for every column and a row for every item', () => {
    const w = mount(DataTable, { props, global })
    expect(w.findAll('th').map((x) => x.text())).toEqual(['Name', 'Count'])
    expect(w.findAll('tbody tr')).toHaveLength(2)
  })
  it('opens a row, but not by a click on a button in it', async () => {
    const w = mount(DataTable, { props: { ...props, opens: true }, slots: { actions: '<button>x</button>' }, global })
    await w.find('tbody button').trigger('click')
    expect(w.emitted('open')).toBeUndefined()
    await w.find('tbody td').trigger('click')
    expect(w.emitted('open')![0]).toEqual([rows[0]])
  })
  it('offers the next page only when there is one', async () => {
    const w = mount(DataTable, { props, global })
    expect(w.text()).not.toContain('Load more')
    await w.setProps({ next: 'cursor' })
    await w.findAll('button').at(-1)!.trigger('click')
    expect(w.emitted('more')).toHaveLength(1)
  })
})

describe('ErrorState', () => {
  it('says what the server said, with code and request', () => {
    const w = mount(ErrorState, { props: { problem: { title: 'Not found', detail: 'There is no model x', hint: 'List them', code: 'model.not_found', requestId: 'req_1' } }, global })
    for (const text of ['Not found', 'There is no model x', 'List them', 'model.not_found', 'req_1']) expect(w.text()).toContain(text)
  })
  it('has plain words for a server that is away', () => {
    expect(mount(ErrorState, { props: { problem: { title: 'offline', code: 'client.offline', offline: true } }, global }).text()).toContain('does not answer')
  })
})

describe('ChatPrompt', () => {
  it('does not send while a word is being composed', async () => {
    const w = mount(ChatPrompt, { props: { modelValue: 'nihao', running: false }, global })
    const field = w.find('textarea')
    await field.trigger('keydown', { key: 'Enter', isComposing: true })
    await field.trigger('keydown', { key: 'Enter', shiftKey: true })
    expect(w.emitted('send')).toBeUndefined()
    await field.trigger('keydown', { key: 'Enter' })
    expect(w.emitted('send')).toHaveLength(1)
  })
})
