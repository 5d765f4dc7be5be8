/** Icons by kind of an identity provider. Only general signs: the set that is bundled has no brands. */
const icons: Record<string, string> = { github: 'i-lucide-git-branch', gitlab: 'i-lucide-git-merge', google: 'i-lucide-mail', feishu: 'i-lucide-send', dingtalk: 'i-lucide-message-circle', wecom: 'i-lucide-messages-square', oidc: 'i-lucide-badge-check' }

export const kindIcon = (kind: string): string => icons[kind] ?? 'i-lucide-log-in'
