import { computed } from 'vue'
import { useRouter } from 'vue-router'
import { useSession } from '@/api/session'
import type { Key } from '@/i18n'
import type { MenuGroup } from '@/router'

export interface Entry { path: string; title: Key; icon: string; key?: string }
export interface Group { id: MenuGroup; title?: Key; entries: Entry[] }

const groups: { id: MenuGroup; title?: Key }[] = [
  { id: 'top' },
  { id: 'build', title: 'shell.group.build' },
  { id: 'serve', title: 'shell.group.serve' },
  { id: 'manage', title: 'shell.group.manage' },
  { id: 'operate', title: 'shell.group.operate' },
]

/** Titles of the menu belong to the shell's words, so that the sidebar needs no other area's. */
const titles: Record<string, Key> = {
  overview: 'shell.menu.overview', playground: 'shell.menu.playground', models: 'shell.menu.models', deployments: 'shell.menu.deployments',
  providers: 'shell.menu.providers', keys: 'shell.menu.keys', usage: 'shell.menu.usage', team: 'shell.menu.team', jobs: 'shell.menu.jobs', tenants: 'shell.menu.tenants', budgets: 'shell.menu.budgets', limits: 'shell.menu.limits', billing: 'shell.menu.billing', routes: 'shell.menu.routes',
}

/** The sidebar: made from the routes' meta, only what the person may open. */
export function useMenu() {
  const router = useRouter()
  const session = useSession()
  return computed<Group[]>(() => groups.map((g) => ({
    ...g,
    entries: router.getRoutes()
      .filter((r) => r.meta.menu?.group === g.id && session.may(r.meta.permission))
      .sort((a, b) => a.meta.menu!.order - b.meta.menu!.order)
      .map((r) => ({ path: r.path, title: titles[String(r.name)] ?? r.meta.title, icon: r.meta.menu!.icon, key: r.meta.menu!.key })),
  })).filter((g) => g.entries.length > 0))
}
