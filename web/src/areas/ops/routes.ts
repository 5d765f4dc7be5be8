import type { RouteRecordRaw } from 'vue-router'

export const opsRoutes: RouteRecordRaw[] = [
  { path: '/jobs', name: 'jobs', component: () => import('./pages/Jobs.vue'), meta: { area: 'ops', title: 'ops.jobs.title', permission: 'job:read', menu: { group: 'operate', icon: 'i-lucide-list-checks', order: 1, key: 'j' } } },
]
