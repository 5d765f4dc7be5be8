import type { RouteRecordRaw } from 'vue-router'

export const modelRoutes: RouteRecordRaw[] = [
  { path: '/models', name: 'models', component: () => import('./pages/Models.vue'), meta: { area: 'model', title: 'model.list.title', permission: 'model:read', menu: { group: 'build', icon: 'i-lucide-box', order: 1, key: 'm' } } },
  { path: '/models/upload', name: 'model-upload', component: () => import('./pages/Upload.vue'), meta: { area: 'model', title: 'model.upload.title', permission: 'model:write', under: '/models' } },
  { path: '/models/:name', redirect: (to) => `/models/${encodeURIComponent(String(to.params.name))}/versions` },
  { path: '/models/:name/:tab(versions|files|report|use)', name: 'model', component: () => import('./pages/Model.vue'), meta: { area: 'model', title: 'model.detail.title', permission: 'model:read', under: '/models' } },
]
