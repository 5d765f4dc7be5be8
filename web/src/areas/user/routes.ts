import type { RouteRecordRaw } from 'vue-router'

export const userRoutes: RouteRecordRaw[] = [
  { path: '/setup', name: 'setup', component: () => import('./pages/Setup.vue'), meta: { area: 'user', title: 'user.setup.title', enter: true } },
  { path: '/login', name: 'login', component: () => import('./pages/Login.vue'), meta: { area: 'user', title: 'user.login.title', enter: true } },
  { path: '/keys', name: 'keys', component: () => import('./pages/Keys.vue'), meta: { area: 'user', title: 'user.keys.title', permission: 'key:read', menu: { group: 'manage', icon: 'i-lucide-key-round', order: 1, key: 'k' } } },
  { path: '/team', name: 'team', component: () => import('./pages/Team.vue'), meta: { area: 'user', title: 'user.team.title', permission: 'user:read', menu: { group: 'manage', icon: 'i-lucide-users', order: 3, key: 't' } } },
  { path: '/profile', redirect: '/profile/account' },
  { path: '/profile/:tab(account|security|preferences)', name: 'profile', component: () => import('./pages/Profile.vue'), meta: { area: 'user', title: 'user.profile.title' } },
]
