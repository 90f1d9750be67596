import { Admission, standardAdmission, type AdmissionLimits } from './admission.ts';
import { App } from './app.ts';
import { BodyRoom } from './body.ts';
import { Metrics } from './metrics.ts';
import { hider } from './problem.ts';
import { allRoutes } from './routes.ts';
import type { Service } from '../service/service.ts';
import type { Watch } from './watch.ts';

export interface OpenApiOptions {
  readonly service: Service;
  readonly log: Watch['log'];
  readonly admission?: AdmissionLimits;
  /** Of the bodies of all requests together; default 512 MiB. */
  readonly bodyBytesMax?: number;
  readonly trustLocalIdentities?: boolean;
  /** Directories that no answer names, and what they are called instead. */
  readonly hidden?: Readonly<Record<string, string>>;
}

/** The HTTP interface of a service: `app.fetch` answers a request, also without any listener. */
export function openApi(options: OpenApiOptions): { app: App; metrics: Metrics; admission: Admission } {
  const { service, log, trustLocalIdentities = false } = options;
  const metrics = new Metrics();
  const admission = new Admission(options.admission ?? standardAdmission);
  metrics.follow(service, admission);
  const app = new App({
    service,
    routes: allRoutes(),
    watch: { log, metrics },
    admission,
    bodies: new BodyRoom(options.bodyBytesMax ?? 512 * 1024 * 1024),
    hide: hider({ [service.dataDir.path]: '<data>', ...options.hidden }),
    trustLocalIdentities,
  });
  return { app, metrics, admission };
}
