import { useT, type Key } from '@/i18n'

/** What a permission allows, in words; one that this console does not know is shown by its verb. */
export function usePermissionWords() {
  const { t, has } = useT()
  return {
    area: (area: string): string => (has(`tenant.area.${area}`) ? t(`tenant.area.${area}` as Key) : area),
    text: (id: string): string => {
      const key = `tenant.perm.${id.replace(':', '_')}`
      return has(key) ? t(key as Key) : (id.split(':')[1] ?? id).replaceAll('_', ' ')
    },
  }
}
