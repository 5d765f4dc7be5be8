import { describe, expect, it } from 'vitest'
import { Problem, readProblem, toProblem } from './problem'

const answer = (status: number, body: string, head: Record<string, string> = {}): Response => new Response(body, { status, headers: head })

describe('readProblem', () => {
  it('reads problem+json with its fields', async () => {
    const p = await readProblem(answer(422, JSON.stringify({ title: 'Some fields are wrong', code: 'user.invalid', detail: 'd', hint: 'h', request_id: 'req_1', errors: [{ field: 'body.profile.first_name', code: 'too_long', message: 'at most 100' }] })))
    expect(p).toMatchObject({ status: 422, code: 'user.invalid', title: 'Some fields are wrong', detail: 'd', hint: 'h', requestId: 'req_1' })
    expect(p.field('first_name')).toBe('at most 100')
    expect(p.field('name')).toBeUndefined()
  })
  it('reads the OpenAI form', async () => {
    expect(await readProblem(answer(404, JSON.stringify({ error: { message: 'no such model', type: 'invalid_request_error', code: 'model_not_found' } })))).toMatchObject({ status: 404, code: 'model_not_found', title: 'no such model' })
  })
  it('keeps status and request id of a page that is no JSON', async () => {
    expect(await readProblem(answer(502, '<html>Bad gateway</html>', { 'x-request-id': 'req_2' }))).toMatchObject({ status: 502, code: 'http.502', requestId: 'req_2' })
  })
})

describe('toProblem', () => {
  it('calls a failed fetch offline', () => {
    expect(toProblem(new TypeError('Failed to fetch')).offline).toBe(true)
  })
  it('leaves a problem as it is', () => {
    const p = new Problem(409, 'a.b', 't')
    expect(toProblem(p)).toBe(p)
  })
})
