import { execa } from 'execa';

/** A program that runs while others do. */
export interface Beside {
  /** Shows all that it has said, under its title, once it has ended; resolves with whether it ended well. */
  readonly shown: () => Promise<boolean>;
  /** Ends it with all that it has started; may be called twice. */
  readonly end: () => void;
}

/** Starts it, with temporary files in `folder`. Its output is kept until it is to be shown: lines of two programs would mix. */
export function beside(title: string, command: string, args: readonly string[], folder: string): Beside {
  const child = execa(command, args, {
    all: true,
    stdin: 'ignore',
    reject: false,
    detached: true,
    maxBuffer: bytesMax,
    env: { TMPDIR: folder },
  });
  const shown = async (): Promise<boolean> => {
    const { all, exitCode } = await child;
    console.log(`== ${title}\n${all}`);
    return exitCode === 0;
  };
  const end = (): void => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    process.kill(-child.pid, 'SIGKILL'); // what it has put in pid namespaces of their own goes with it
  };
  return { shown, end };
}

const bytesMax = 64 * 1024 * 1024;
