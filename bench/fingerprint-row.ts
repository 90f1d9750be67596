import { parsePolicy, type LoadedPolicy } from '../src/policy/policy.ts';
import { inTurn, lessIsBetter, timed, type Row } from './measure.ts';
import type { Bench } from './bed.ts';
import { WorkspaceBed } from './workspace-bed.ts';

/** Under gVisor each takes seven times as long, and they differ little. */
const rounds = { runc: 40, runsc: 15 };
/** The same by hand, and less of it: packages, files of the system, programs, users, variables. */
const byHand =
  'dpkg-query -W; find /etc /usr/local /opt -xdev -type f -readable -exec sha256sum {} +; ' +
  'sha256sum /usr/bin/git /usr/bin/bash /usr/bin/perl; cat /etc/passwd /etc/group /proc/self/mountinfo; env; date; uname -a';

/** A look at the environment of an open run, on record, where its image is known; beside a shell that looks into a container. */
export async function fingerprint({ bed, peer }: Bench): Promise<readonly Row[]> {
  const place = await WorkspaceBed.make(bed);
  try {
    const of = async (runtime: 'runc' | 'runsc') => {
      const run = await place.runner.open({ policy: policyFor(bed.image, runtime) });
      const first = await timed(() => run.fingerprints.take('asked'));
      const shell = { rounds: 10, work: () => peer.exec(['sh', '-c', byHand]) };
      const look = () => run.fingerprints.take('asked');
      const measured = await inTurn(rounds[runtime], look, runtime === 'runc' ? shell : undefined);
      await run.close();
      return { first, measured };
    };
    const [runc, runsc] = [await of('runc'), await of('runsc')];
    return [
      lessIsBetter('fingerprint', 'ms', runc.measured, 'a shell in docker exec', { bound: 100 }),
      lessIsBetter('fingerprint/gvisor', 'ms', runsc.measured, null, { bound: 100 }),
      lessIsBetter('fingerprint/first-of-an-image', 'ms', { ours: runc.first, peer: null }, null, {}),
    ];
  } finally {
    await place.close();
  }
}

function policyFor(image: string, runtime: 'runc' | 'runsc'): LoadedPolicy {
  const text = `apiVersion: glovebox/v1
kind: Policy
name: fingerprint
images: ["${image}"]
runtime: ${runtime}
files: { read: ["**"], write: ["**"] }
limits: { memory: 2GiB, cpus: 2, pids: 512, workspace: 1GiB, tmp: 256MiB }
`;
  return parsePolicy(text, 'bench');
}
