// Compiles only while the shapes of types.ts can be read from what the server's document promises: `npm run typecheck` fails when one of them moves.
import type { components } from './schema'
import type * as I from './identity'
import type * as M from './money'
import type * as R from './routing'
import type * as T from './types'

type S = components['schemas']
/** Words that the document leaves open (`string`) and the console knows by name. */
type Open<X> = X extends string ? string : X extends (infer E)[] ? Open<E>[] : X extends object ? { [K in keyof X]: Open<X[K]> } : X
type Fits<Server extends Open<Ours>, Ours> = [Server, Ours]

export type Contract = [
  Fits<S['UserAuthConfig'], T.AuthConfig>,
  Fits<S['UserSession'], T.Session>,
  Fits<S['UserKey'], T.ApiKey>,
  Fits<S['Model'], T.Model>,
  Fits<S['ModelVersion'], T.ModelVersion>,
  Fits<S['ModelReport'], T.Report>,
  Fits<S['InferenceDeploymentView'], T.Deployment>,
  Fits<S['InferenceFitAnswer'], T.Fit>,
  Fits<S['InferenceProvider'], T.Provider>,
  Fits<S['InferenceMetricsView'], T.Metrics>,
  Fits<S['InferenceOverview'], T.Overview>,
  Fits<S['JobEntry'], T.Job>,
  Fits<S['User'], T.User>,
  Fits<S['UserMFAState'], I.MfaState>,
  Fits<S['UserTotpOut'], I.TotpStart>,
  Fits<S['UserPasskey'], I.Passkey>,
  Fits<S['UserIdentity'], I.Identity>,
  Fits<S['UserTenantDetail'], I.Tenant>,
  Fits<S['UserMember'], I.Member>,
  Fits<S['UserMadeInvitation'], I.Invitation>,
  Fits<S['UserInvitationView'], I.InvitationView>,
  Fits<S['UserProject'], I.Project>,
  Fits<S['UserProjectMember'], I.ProjectMember>,
  Fits<S['UserRoleDetail'], I.RoleDetail>,
  Fits<S['UserPermissionDetail'], I.Permission>,
  Fits<S['UserServiceAccount'], I.ServiceAccount>,
  Fits<S['UserGrantDetail'], I.Grant>,
  Fits<S['UserPrice'], M.Price>,
  Fits<S['UserWallet'], M.Wallet>,
  Fits<S['UserJournal'], M.Journal>,
  Fits<S['UserLedgerReport'], M.Verification>,
  // The subject's id may be left out when a budget is made; in answers it is there.
  Fits<Omit<S['UserBudget'], 'subject'>, Omit<M.Budget, 'subject'>>,
  Fits<S['UserLimit'], M.Limit>,
  Fits<S['UserLimitsLive'], M.LiveLimits>,
  Fits<S['UserStatement'], M.Statement>,
  Fits<S['UserInvoice'], M.Invoice>,
  Fits<S['UserRevenueReport'], M.Revenue>,
  Fits<S['UserForecast'], M.Forecast>,
  Fits<S['UserUsageReport'], T.Usage>,
  Fits<S['UserUsageRequest'], T.UsageRequest>,
  Fits<S['InferenceRouteView'], R.InferenceRoute>,
  Fits<S['InferenceEndpointState'], R.EndpointState>,
  Fits<S['InferencePreset'], R.ProviderPreset>,
]
