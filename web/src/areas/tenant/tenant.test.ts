import { describe, expect, it } from 'vitest'
import { grouped } from './useRoles'

describe('grouped', () => {
  const p = (id: string, own = true) => ({ name: id, roles: [], own })
  it('puts permissions of one noun together, reading first', () => {
    const g = grouped([p('model:write'), p('user:read'), p('model:read'), p('model:odd'), p('model:admin', false)])
    expect(g.map((x) => x.area)).toEqual(['model', 'user'])
    expect(g[0]!.rows.map((r) => r.verb)).toEqual(['read', 'write', 'admin', 'odd'])
    expect(g[0]!.rows[2]!.own).toBe(false)
  })
  it('takes a name without a colon', () => expect(grouped([p('all')])[0]!.rows).toHaveLength(1))
})
