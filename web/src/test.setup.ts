import { vi } from 'vitest'

// happy-dom has no match for media queries of the page's own size.
if (!window.matchMedia) vi.stubGlobal('matchMedia', (q: string) => ({ matches: false, media: q, addEventListener: () => undefined, removeEventListener: () => undefined }))
