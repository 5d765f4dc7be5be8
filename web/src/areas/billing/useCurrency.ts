import { computed } from 'vue'
import { get } from '@/api/client'
import type { Wallet } from '@/api/money'
import { useLoad } from '@/api/query'
import { useSession } from '@/api/session'
import { useFormat } from '@/ui/format'

/** The wallet of the organization, and money in its currency: an installation has one. */
export function useWallet() {
  const f = useFormat()
  const session = useSession()
  const wallet = useLoad({ key: () => ['user', 'wallet'], query: (signal) => get<Wallet>('/wallet', {}, { signal }), enabled: () => session.may('billing:read') })
  const currency = computed(() => wallet.data.value?.currency ?? 'CNY')
  return { wallet, currency, money: (micro: number | undefined | null, digits?: number) => f.money(micro, currency.value, digits) }
}
