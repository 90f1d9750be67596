import type { Duplex } from 'node:stream';
import { RunnerError } from '../errors.ts';
import type { OpenedService } from '../service/open-service.ts';
import { openLog } from './log.ts';
import { openApi } from './open-api.ts';
import { Terminal } from './terminal.ts';

/** A service as this process has it: its routes without a listener, its sockets without frames. Who asks is its owner. */
export interface Embedded {
  fetch(request: Request): Promise<Response>;
  connect(path: string): Promise<Duplex>;
  /** Closes the runs that are open, too. */
  close(): Promise<void>;
}

const socketPath = /^\/v1\/runs\/([^/]+)\/(?:ports\/(\d{1,5})|calls\/([^/]+)\/pty)$/;
const drainMs = 30_000;

export function embed(opened: OpenedService): Embedded {
  const { service } = opened;
  const { app } = openApi({ service, log: openLog({ format: 'json', level: 'silent' }) });
  const connect = async (path: string): Promise<Duplex> => {
    const [, run = '', port, callId = ''] = socketPath.exec(path)?.map((part) => decodeURIComponent(part ?? '')) ?? [];
    if (run === '') throw new RunnerError('not_found', `there is no socket ${JSON.stringify(path.slice(0, 200))}`);
    const owner = service.local();
    if (port !== undefined && port !== '') return service.forward(owner, run, Number(port));
    return (await Terminal.attach(service, owner, { run, callId, offset: 0 })).stream();
  };
  return {
    fetch: (request) => app.fetch(request, { isOwner: true }),
    connect,
    close: async () => {
      await service.drain(drainMs, 'close');
      await opened.close();
    },
  };
}
