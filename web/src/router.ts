import { createRouter, createWebHistory, type RouteRecordRaw } from 'vue-router'
import type { Area, Key } from './i18n'
import { homeRoutes } from './areas/home/routes'
import { userRoutes } from './areas/user/routes'
import { tenantRoutes } from './areas/tenant/routes'
import { billingRoutes } from './areas/billing/routes'
import { modelRoutes } from './areas/model/routes'
import { inferenceRoutes } from './areas/inference/routes'
import { opsRoutes } from './areas/ops/routes'

export type MenuGroup = 'top' | 'build' | 'serve' | 'manage' | 'operate'

declare module 'vue-router' {
  interface RouteMeta {
    area: Area
    title: Key
    /** Reached without a session: no shell around it. */
    enter?: boolean
    permission?: string
    /** A place in the sidebar. */
    menu?: { group: MenuGroup; icon: string; order: number; key?: string }
    /** Fills the window: no padding, no page scroll. */
    full?: boolean
    wide?: boolean
    /** The path in the menu that is marked while this page is open. */
    under?: string
  }
}

export const routes: RouteRecordRaw[] = [
  ...homeRoutes,
  ...userRoutes,
  ...tenantRoutes,
  ...billingRoutes,
  ...modelRoutes,
  ...inferenceRoutes,
  ...opsRoutes,
  { path: '/:rest(.*)*', name: 'missing', component: () => import('./shell/Missing.vue'), meta: { area: 'shell', title: 'shell.missing.title' } },
]

export function makeRouter() {
  return createRouter({
    history: createWebHistory(),
    routes,
    scrollBehavior: () => ({ top: 0 }),
  })
}
