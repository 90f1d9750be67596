import { RunnerError } from '../../errors.ts';
import type { Labels, OverlayLayers } from '../engine.ts';
import { carries } from '../labels.ts';
import { volumeAnswer } from './answers.ts';
import { type DockerCalls, pathOf } from './calls.ts';
import { failed } from './containers.ts';

/**
 * Asks the engine's own volume driver for a mount, and reads back that it will mount exactly that. The mount itself
 * happens when a container starts; a directory that the engine does not see then is its error, never an empty one.
 */
export async function createMount(
  calls: DockerCalls,
  name: string,
  options: Readonly<Record<string, string>>,
  labels: Labels,
  timeoutMs: number,
): Promise<void> {
  const body = { Name: name, Driver: 'local', DriverOpts: options, Labels: labels };
  const path = pathOf(['volumes', 'create']);
  const what = `create volume ${name}`;
  try {
    // Safe to repeat: an existing volume of that name is the answer, and then it must be this one.
    const volume = await calls.json({ what, method: 'POST', path, body, timeoutMs }, volumeAnswer);
    if (volume.Driver === 'local' && carries(volume.Options ?? {}, options) && carries(volume.Labels ?? {}, labels))
      return;
  } catch (error) {
    throw failed(what, error);
  }
  throw new RunnerError(
    'policy_unenforceable',
    `Volume ${name} is not the mount that was asked for. Remove it (docker volume rm ${name}) and try again.`,
  );
}

/**
 * `redirect_dir`: a directory of the tree below can be renamed. `index=off`: a file that has several names below is
 * copied for one of them alone. `metacopy=off`: a change of mode brings its content along. `xino=auto`: an entry keeps
 * the inode number it has below, which is how a directory that took another's place is told from the one that was there.
 */
export function overlayOptions(layers: OverlayLayers): Readonly<Record<string, string>> {
  const { lower, middle, upper, work } = layers;
  const lowers = middle === undefined ? lower : [middle, ...lower];
  for (const path of [...lowers, upper, work]) {
    if (plainPath.test(path)) continue;
    throw new RunnerError(
      'policy_unenforceable',
      `An overlay cannot be made of ${JSON.stringify(path)}: its path must be absolute, without commas, colons or spaces.`,
    );
  }
  const o = [
    'nosuid,nodev',
    `lowerdir=${lowers.join(':')},upperdir=${upper},workdir=${work}`,
    'redirect_dir=on,index=off,metacopy=off,xino=auto',
  ].join(',');
  return { type: 'overlay', device: 'overlay', o };
}

/** The engine's own read-only flag would drop the others again (runc 1.1), so the mount has all three itself. */
export function inputOptions(source: string): Readonly<Record<string, string>> {
  return { type: 'none', device: source, o: 'bind,ro,nosuid,nodev' };
}

const plainPath = /^\/[^\s,:\\]+$/;
