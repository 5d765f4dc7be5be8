import { mount } from '@vue/test-utils'
import ui from '@nuxt/ui/vue-plugin'
import { describe, expect, it } from 'vitest'
import { createMemoryHistory, createRouter } from 'vue-router'
import { i18n } from '@/i18n'
import words from './locales/en.json'
import DataTable from './DataTable.vue'
import ErrorState from './ErrorState.vue'
import ChatPrompt from './ChatPrompt.vue'
import ListView from './ListView.vue'
import Meter from './Meter.vue'
import Shares from './chart/Shares.vue'

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

describe('ListView', () => {
  const slots = { default: '<p>rows</p>', empty: '<p>nothing yet</p>' }
  const props = { pending: false, hasData: true, total: 2, shown: 2, searchLabel: 'Search keys' }
  it('shows the rows with a search above them', () => {
    const w = mount(ListView, { props, slots, global })
    expect(w.text()).toContain('rows')
    expect(w.find('input').attributes('aria-label')).toBe('Search keys')
  })
  it('tells nothing yet from nothing found', async () => {
    const w = mount(ListView, { props: { ...props, total: 0, shown: 0 }, slots, global })
    expect(w.text()).toBe('nothing yet')
    await w.setProps({ total: 2, shown: 0, search: 'x' })
    expect(w.text()).toContain('Nothing matches the search')
    await w.findAll('button').at(-1)!.trigger('click')
    expect(w.emitted('update:search')![0]).toEqual([''])
  })
  it('says what went wrong instead of an empty list', () => {
    expect(mount(ListView, { props: { ...props, hasData: false, total: 0, shown: 0, problem: { title: 'Forbidden' } }, slots, global }).text()).toContain('Forbidden')
  })
})

describe('Meter', () => {
  it('never shows more than the whole, also with a part set aside or a limit of nothing', () => {
    const widths = (props: { used: number; set?: number; limit: number }) => mount(Meter, { props: { label: 'x', ...props }, global }).findAll('span').map((s) => s.attributes('style'))
    expect(widths({ used: 30, set: 20, limit: 100 })).toEqual(['width: 30%;', 'width: 20%;'])
    expect(widths({ used: 90, set: 40, limit: 100 })).toEqual(['width: 90%;', 'width: 10%;'])
    expect(widths({ used: 500, limit: 100 })).toEqual(['width: 100%;'])
    expect(widths({ used: 1, limit: 0 })).toEqual(['width: 100%;'])
    expect(widths({ used: 0, limit: 0 })).toEqual(['width: 0%;'])
  })
})

describe('Shares', () => {
  it('sorts, sums the rest and gives the whole', () => {
    const items = Array.from({ length: 5 }, (_, i) => ({ label: `m${i}`, value: (i + 1) * 10 }))
    const w = mount(Shares, { props: { label: 'x', items, most: 3, rest: 'Others' }, global })
    expect(w.findAll('li').map((l) => l.findAll('span')[0]!.text())).toEqual(['m4', 'm3', 'Others'])
    expect(w.text()).toContain('60')
  })
})
