// Nuxt UI writes the types of its themes when Vite reads its configuration: a type check of a fresh install needs them first.
import { resolveConfig } from 'vite'

await resolveConfig({}, 'build')
