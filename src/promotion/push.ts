import { join } from 'node:path';
import { canonicalJson, digestOf } from '../digest.ts';
import { RunnerError } from '../errors.ts';
import { Ledger, type Promotion } from './ledger.ts';
import { BorrowedObjects } from './target/objects.ts';
import { openPlace } from './target/place.ts';
import { branchRef } from './target/refs.ts';

export interface PushRequest {
  /** Id of the promotion. */
  readonly promotion: string;
  /** `https://…`, or `http://` on the loopback: never the name of a remote, which some configuration would give. */
  readonly remote: string;
  /** Asked for when it is needed: what the operator's configuration has for this address. */
  readonly credential?: () => Promise<{ readonly user: string; readonly secret: string } | undefined>;
}

/**
 * The commit of a promotion to the same branch elsewhere. Promises:
 *  - nobody's configuration is read, neither the user's nor the repository's, and no hook of this side is run;
 *  - the secret is in no file and in no argument, goes to that address alone, and follows no redirection;
 *  - the branch there is made, or moved forward: what somebody else has put on it is never overwritten.
 */
export async function push(dataDir: { readonly path: string }, request: PushRequest): Promise<Promotion> {
  const ledger = new Ledger(dataDir);
  const { remote } = request;
  return ledger.alone(request.promotion, async (scratch) => {
    const promotion = await ledger.get(request.promotion);
    const { intended, done, id } = promotion;
    if (done === undefined)
      throw new RunnerError('conflict', `promotion ${id} was not completed; promote its bundle again`);
    const place = await openPlace(intended.repository);
    try {
      const objects = await BorrowedObjects.create(join(scratch, 'objects.git'), place);
      const to = `${done.commit}:${branchRef(intended.branch)}`;
      const answer = await objects.ask(['push', '--porcelain', '--no-verify', '--no-signed', remote, to], undefined, {
        ...(await settings(request)),
        GIT_ALLOW_PROTOCOL: 'https:http',
      });
      if (answer.code !== 0)
        throw new RunnerError(
          'conflict',
          `promotion ${id} is on branch ${intended.branch} here, and was not pushed to ${remote}: ${answer.stderr}; mend that, and promote again with --push`,
        );
    } finally {
      await place.close();
    }
    const at = new Date().toISOString();
    const record = { v: 1, id, at, done: digestOf(canonicalJson(done)), remote, branch: intended.branch } as const;
    await ledger.write('pushed', { ...record, commit: done.commit });
    return (await ledger.find(id)) ?? promotion;
  });
}

/** Through the environment, which no other user can read. */
async function settings({ remote, credential }: PushRequest): Promise<Readonly<Record<string, string>>> {
  if (!/^(https:\/\/|http:\/\/(127\.0\.0\.1|localhost|\[::1\])[:/])[^\s@]+$/.test(remote))
    throw new RunnerError(
      'invalid_request',
      `${JSON.stringify(remote)} is no address to push to: write https://…, without a user; names of remotes are of a configuration, which is not read, and a repository on this machine would have its hooks run here`,
    );
  const pairs = [
    ['http.followRedirects', 'false'],
    ['credential.helper', ''],
  ];
  const given = await credential?.();
  if (given !== undefined) {
    const basic = Buffer.from(`${given.user}:${given.secret}`).toString('base64');
    pairs.push([`http.${remote}.extraHeader`, `Authorization: Basic ${basic}`]);
  }
  const numbered = pairs.flatMap(([key = '', value = ''], at) => [
    [`GIT_CONFIG_KEY_${at}`, key],
    [`GIT_CONFIG_VALUE_${at}`, value],
  ]);
  return { ...Object.fromEntries(numbered), GIT_CONFIG_COUNT: `${pairs.length}`, GIT_ASKPASS: '', SSH_ASKPASS: '' };
}
