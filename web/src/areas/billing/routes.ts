import type { RouteRecordRaw } from 'vue-router'

const under = '/billing/wallet'

export const billingRoutes: RouteRecordRaw[] = [
  { path: '/budgets', name: 'budgets', component: () => import('./pages/Budgets.vue'), meta: { area: 'billing', title: 'billing.budgets.title', permission: 'billing:read', menu: { group: 'manage', icon: 'i-lucide-gauge', order: 3, key: 'b' } } },
  { path: '/limits', name: 'limits', component: () => import('./pages/Limits.vue'), meta: { area: 'billing', title: 'billing.limits.title', permission: 'tenant:read', menu: { group: 'manage', icon: 'i-lucide-traffic-cone', order: 4, key: 'l' } } },
  { path: '/billing', redirect: under },
  { path: '/billing/wallet', name: 'billing', component: () => import('./pages/Wallet.vue'), meta: { area: 'billing', title: 'billing.title', permission: 'billing:read', menu: { group: 'manage', icon: 'i-lucide-wallet', order: 5, key: 'w' } } },
  { path: '/billing/prices', name: 'billing-prices', component: () => import('./pages/Prices.vue'), meta: { area: 'billing', title: 'billing.tab.prices', permission: 'billing:read', under } },
  { path: '/billing/statements', name: 'billing-statements', component: () => import('./pages/Statements.vue'), meta: { area: 'billing', title: 'billing.tab.statements', permission: 'billing:read_all', under } },
  { path: '/billing/invoices', name: 'billing-invoices', component: () => import('./pages/Invoices.vue'), meta: { area: 'billing', title: 'billing.tab.invoices', permission: 'billing:read_all', under } },
  { path: '/billing/revenue', name: 'billing-revenue', component: () => import('./pages/Revenue.vue'), meta: { area: 'billing', title: 'billing.tab.revenue', permission: 'billing:operate', under } },
  { path: '/billing/ledger', name: 'billing-ledger', component: () => import('./pages/Ledger.vue'), meta: { area: 'billing', title: 'billing.tab.ledger', permission: 'billing:operate', under } },
]
