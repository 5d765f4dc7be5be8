import { get } from '@/api/client'
import { useLoad } from '@/api/query'
import { useSession } from '@/api/session'
import type { Deployment, Job, List, Overview } from '@/api/types'

export function useOverview() {
  const session = useSession()
  const overview = useLoad({ key: () => ['home', 'overview'], query: (signal) => get<Overview>('/overview', {}, { signal }), every: () => 10_000 })
  const deployments = useLoad({ key: () => ['inference', 'deployments'], query: (signal) => get<List<Deployment>>('/inference/deployments', { limit: 200 }, { signal }), every: () => 4000 })
  const jobs = useLoad({ key: () => ['home', 'jobs'], query: (signal) => get<List<Job>>('/jobs', { limit: 5 }, { signal }), enabled: () => session.may('job:read'), every: () => 8000 })
  return { overview, deployments, jobs }
}
