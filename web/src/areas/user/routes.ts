import type { RouteRecordRaw } from 'vue-router'

export const userRoutes: RouteRecordRaw[] = [
  { path: '/setup', name: 'setup', component: () => import('./pages/Setup.vue'), meta: { area: 'user', title: 'user.setup.title', enter: true } },
  { path: '/login', name: 'login', component: () => import('./pages/Login.vue'), meta: { area: 'user', title: 'user.login.title', enter: true } },
  { path: '/enter', name: 'enter', component: () => import('./pages/Enter.vue'), meta: { area: 'user', title: 'user.login.title', enter: true } },
  { path: '/register', name: 'register', component: () => import('./pages/Register.vue'), meta: { area: 'user', title: 'user.register.title', enter: true } },
  { path: '/verify', name: 'verify', component: () => import('./pages/Verify.vue'), meta: { area: 'user', title: 'user.verify.title', enter: true } },
  { path: '/forgot', name: 'forgot', component: () => import('./pages/Forgot.vue'), meta: { area: 'user', title: 'user.forgot.title', enter: true } },
  { path: '/reset', name: 'reset', component: () => import('./pages/Reset.vue'), meta: { area: 'user', title: 'user.reset.title', enter: true } },
  { path: '/invite', name: 'invite', component: () => import('./pages/Invite.vue'), meta: { area: 'user', title: 'user.invite.heading', enter: true } },
  { path: '/keys', name: 'keys', component: () => import('./pages/Keys.vue'), meta: { area: 'user', title: 'user.keys.title', permission: 'key:read', menu: { group: 'manage', icon: 'i-lucide-key-round', order: 1, key: 'k' } } },
  { path: '/profile', redirect: (to) => ({ path: '/profile/account', query: to.query }) },
  { path: '/profile/account', name: 'profile', component: () => import('./pages/ProfileAccount.vue'), meta: { area: 'user', title: 'user.profile.title' } },
  { path: '/profile/security', name: 'profile-security', component: () => import('./pages/ProfileSecurity.vue'), meta: { area: 'user', title: 'user.profile.security' } },
  { path: '/profile/preferences', name: 'profile-preferences', component: () => import('./pages/ProfilePreferences.vue'), meta: { area: 'user', title: 'user.profile.preferences' } },
  { path: '/profile/data', name: 'profile-data', component: () => import('./pages/ProfileData.vue'), meta: { area: 'user', title: 'user.profile.data' } },
]
