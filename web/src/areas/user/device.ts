/** Browser and system in a few words from a user agent; programs are shown by their own name. */
export function device(agent?: string): string {
  if (!agent) return ''
  const browser = /Edg\//.test(agent) ? 'Edge' : /Firefox\//.test(agent) ? 'Firefox' : /Chrome\//.test(agent) ? 'Chrome' : /Safari\//.test(agent) ? 'Safari' : ''
  const system = /Android/.test(agent) ? 'Android' : /iPhone|iPad/.test(agent) ? 'iOS' : /Mac OS X/.test(agent) ? 'macOS' : /Windows/.test(agent) ? 'Windows' : /Linux/.test(agent) ? 'Linux' : ''
  if (!browser) return agent.split(/[\s/]/)[0] ?? ''
  return system ? `${browser} · ${system}` : browser
}
