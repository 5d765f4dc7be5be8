import type { RouteRecordRaw } from 'vue-router'

export const inferenceRoutes: RouteRecordRaw[] = [
  { path: '/playground', name: 'playground', component: () => import('./pages/Playground.vue'), meta: { area: 'inference', title: 'inference.playground.title', permission: 'inference:invoke', full: true, menu: { group: 'top', icon: 'i-lucide-messages-square', order: 2, key: 'p' } } },
  { path: '/deployments', name: 'deployments', component: () => import('./pages/Deployments.vue'), meta: { area: 'inference', title: 'inference.deployments.title', permission: 'inference:read', menu: { group: 'serve', icon: 'i-lucide-rocket', order: 1, key: 'd' } } },
  { path: '/deployments/new', redirect: '/deployments/new/source' },
  { path: '/deployments/new/:step(source|resources|review)', name: 'deployment-new', component: () => import('./pages/DeploymentNew.vue'), meta: { area: 'inference', title: 'inference.wizard.title', permission: 'inference:write', under: '/deployments' } },
  { path: '/deployments/:name', redirect: (to) => `/deployments/${encodeURIComponent(String(to.params.name))}/overview` },
  { path: '/deployments/:name/:tab(overview|metrics|replicas|logs)', name: 'deployment', component: () => import('./pages/Deployment.vue'), meta: { area: 'inference', title: 'inference.deployment.title', permission: 'inference:read', under: '/deployments' } },
  { path: '/providers', name: 'providers', component: () => import('./pages/Providers.vue'), meta: { area: 'inference', title: 'inference.providers.title', permission: 'inference:read', menu: { group: 'serve', icon: 'i-lucide-plug', order: 3, key: 'r' } } },
  { path: '/routes', name: 'routes', component: () => import('./pages/Routes.vue'), meta: { area: 'inference', title: 'inference.routes.title', permission: 'inference:read', menu: { group: 'serve', icon: 'i-lucide-route', order: 2, key: 'e' } } },
  { path: '/routes/new', name: 'route-new', component: () => import('./pages/RouteEdit.vue'), meta: { area: 'inference', title: 'inference.routes.create', permission: 'inference:write', under: '/routes' } },
  { path: '/routes/:name', name: 'route', component: () => import('./pages/Route.vue'), meta: { area: 'inference', title: 'inference.routes.one', permission: 'inference:read', under: '/routes' } },
  { path: '/routes/:name/edit', name: 'route-edit', component: () => import('./pages/RouteEdit.vue'), meta: { area: 'inference', title: 'inference.routes.edit', permission: 'inference:write', under: '/routes' } },
  { path: '/usage', name: 'usage', component: () => import('./pages/Usage.vue'), meta: { area: 'inference', title: 'inference.usage.title', permission: 'billing:read', menu: { group: 'manage', icon: 'i-lucide-chart-column', order: 2, key: 'u' } } },
]
