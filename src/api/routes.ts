import { openApiDocument } from './openapi.ts';
import type { Route } from './route.ts';
import { approvalRoutes } from './routes/approval-routes.ts';
import { callRoutes } from './routes/call-routes.ts';
import { contextRoutes } from './routes/context-routes.ts';
import { exportRoutes } from './routes/export-routes.ts';
import { fileRoutes } from './routes/file-routes.ts';
import { keyRoutes } from './routes/key-routes.ts';
import { mcpRoutes } from './routes/mcp-routes.ts';
import { outputRoutes } from './routes/output-routes.ts';
import { reviewRoutes } from './routes/review-routes.ts';
import { runRoutes } from './routes/run-routes.ts';
import { serviceRoutes } from './routes/service-routes.ts';
import { verificationRoutes } from './routes/verification-routes.ts';
import { workspaceRoutes } from './routes/workspace-routes.ts';
import { socketRoutes } from './routes/socket-routes.ts';

/** Every route there is: what is served, what the document says, and what the tests of access go through. */
export function allRoutes(): readonly Route[] {
  const routes: Route[] = [
    ...runRoutes,
    ...callRoutes,
    ...outputRoutes,
    ...socketRoutes,
    ...fileRoutes,
    ...exportRoutes,
    ...contextRoutes,
    ...reviewRoutes,
    ...verificationRoutes,
    ...approvalRoutes,
    ...workspaceRoutes,
    ...keyRoutes,
    ...mcpRoutes(),
  ];
  let document: unknown;
  routes.push(...serviceRoutes(() => (document ??= openApiDocument(routes))));
  return routes;
}
