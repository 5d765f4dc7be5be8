import type { RouteRecordRaw } from 'vue-router'

export const homeRoutes: RouteRecordRaw[] = [
  { path: '/', name: 'overview', component: () => import('./pages/Overview.vue'), meta: { area: 'home', title: 'home.title', permission: 'inference:read', menu: { group: 'top', icon: 'i-lucide-layout-dashboard', order: 1, key: 'o' } } },
]
