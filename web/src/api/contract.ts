// Compiles only while the shapes of types.ts can be read from what the server's document promises: `npm run typecheck` fails when one of them moves.
import type { components } from './schema'
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
]
