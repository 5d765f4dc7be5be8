import type { RouteRecordRaw } from 'vue-router'

const under = '/team/members'

export const tenantRoutes: RouteRecordRaw[] = [
  { path: '/team', redirect: under },
  { path: '/team/members', name: 'team', component: () => import('./pages/Members.vue'), meta: { area: 'tenant', title: 'tenant.title', permission: 'user:read', menu: { group: 'manage', icon: 'i-lucide-users', order: 6, key: 't' } } },
  { path: '/team/invitations', name: 'team-invitations', component: () => import('./pages/Invitations.vue'), meta: { area: 'tenant', title: 'tenant.invitations.title', permission: 'user:write', under } },
  { path: '/team/roles', name: 'team-roles', component: () => import('./pages/Roles.vue'), meta: { area: 'tenant', title: 'tenant.roles.title', permission: 'user:read', under } },
  { path: '/team/projects', name: 'team-projects', component: () => import('./pages/Projects.vue'), meta: { area: 'tenant', title: 'tenant.projects.title', permission: 'project:read', under } },
  { path: '/team/projects/:id', name: 'team-project', component: () => import('./pages/Project.vue'), meta: { area: 'tenant', title: 'tenant.projects.one', permission: 'project:read', under } },
  { path: '/team/service-accounts', name: 'team-service-accounts', component: () => import('./pages/ServiceAccounts.vue'), meta: { area: 'tenant', title: 'tenant.service.title', permission: 'key:read', under } },
  { path: '/team/grants', name: 'team-grants', component: () => import('./pages/Grants.vue'), meta: { area: 'tenant', title: 'tenant.grants.title', permission: 'user:write', under } },
  { path: '/team/organisation', name: 'team-organisation', component: () => import('./pages/Organisation.vue'), meta: { area: 'tenant', title: 'tenant.org.title', permission: 'tenant:read', under } },
  { path: '/tenants', name: 'tenants', component: () => import('./pages/Tenants.vue'), meta: { area: 'tenant', title: 'tenant.tenants.title', permission: 'platform:read', menu: { group: 'operate', icon: 'i-lucide-building-2', order: 2, key: 'o' } } },
]
