import { describe, expect, it } from 'vitest'
import { chartsOf, formatOf } from './metrics'
import { bodyParameters, noParameters, rate } from './useChat'
import { parseLine } from './useDeployments'
import { publicName } from './useWizard'

describe('parseLine', () => {
  it('reads a record of the engine', () => expect(parseLine('{"time":"2026-11-25T10:57:27Z","level":"INFO","msg":"ready","replica":"rep_1","attempt":1,"slots":4,"kernel":"avx2","why":"two words"}')).toEqual({ at: '2026-11-25T10:57:27Z', level: 'INFO', text: 'ready slots=4 kernel=avx2 why="two words"' }))
  it.each(['plain text', '{"broken', '{"other":1}', '[1]'])('keeps %s as it is', (line) => expect(parseLine(line)).toEqual({ text: line }))
})

describe('chartsOf', () => {
  it('joins the series of a group on one time axis and shows gaps as gaps', () => {
    const [c] = chartsOf({ series: [
      { key: 'p50', name: { en: 'P50', zh: '中位' }, unit: 'ms', group: 'ttft', points: [[10, 1], [20, 2]] },
      { key: 'p95', name: { en: 'P95', zh: '九五' }, unit: 'ms', group: 'ttft', points: [[20, 4], [30, null]] },
    ] }, 'zh-CN')
    expect(c).toMatchObject({ key: 'ttft', times: [10, 20, 30], series: [{ label: '中位', values: [1, 2, null] }, { label: '九五', values: [null, 4, null] }] })
  })
  it('leaves out what has no points', () => expect(chartsOf({ series: [{ key: 'x', points: [] }] }, 'en')).toEqual([]))
  it.each([['ms', 1500, '1.5 s'], ['s', 0.25, '250 ms'], ['bytes', 2048, '2 KiB'], ['ratio', 0.5, '50 %'], ['tokens', 12_000, '12k']])('writes %s', (unit, n, want) => expect(formatOf(unit)!(n)).toBe(want))
})

describe('bodyParameters', () => {
  it('sends nothing that was not set', () => expect(bodyParameters(noParameters())).toEqual({}))
  it('sends zero, and at most four stops', () => expect(bodyParameters({ ...noParameters(), temperature: 0, stop: 'a\n\n b \nc\nd\ne' })).toEqual({ temperature: 0, stop: ['a', 'b', 'c', 'd'] }))
})

describe('rate', () => {
  it('counts from the first token', () => expect(rate(11, 0, 500, 1500)).toBe(10))
  it('measures one piece over the whole wait', () => expect(rate(48, 0, 100, 100)).toBe(480))
  it('is unknown without an answer', () => expect(rate(0, 0, 0, 0)).toBeUndefined())
})

describe('publicName', () => {
  it.each([['meta-llama/Llama-3.3-70B-Instruct', 'llama-3.3-70b-instruct'], ['my-llama@r3', 'my-llama'], ['Qwen 2.5', 'qwen-2.5'], ['_x', 'x']])('%s', (model, want) => expect(publicName(model)).toBe(want))
})
