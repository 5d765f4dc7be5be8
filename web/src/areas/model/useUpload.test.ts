import { describe, expect, it } from 'vitest'
import { nameFrom } from './useUpload'

describe('nameFrom', () => {
  it.each([['Llama-3.2-1B-Instruct-Q4_K_M.gguf', 'llama-3.2-1b-instruct-q4_k_m'], ['model-00001-of-00003.safetensors', 'model'], ['My Model (v2)', 'my-model-v2'], ['__x__', 'x'], ['模型', '']])('%s', (text, want) => expect(nameFrom(text)).toBe(want))
})
