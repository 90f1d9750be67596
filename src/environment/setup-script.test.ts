import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { keptBundle, systemBundle } from '../egress/image-trust.ts';
import { scriptOf } from './setup-script.ts';

const hostile = ["it's", '$(id)', '`id`', 'a b', '-n', '%s\\n', '"', '\\', '*', '; exit 1', 'line\nbreak', "'\\''"];

test('every argument of a setup command arrives as it was written', () => {
  const print = 'for (const argument of process.argv.slice(1)) process.stdout.write(argument + String.fromCharCode(0))';
  const script = scriptOf({
    spec: { image: 'base', setup: [['exec', process.execPath, '-e', print, '--', ...hostile]], files: [] },
    files: [],
  });
  const line = script.slice(script.indexOf("'exec'"), script.indexOf('\ncd /\n')).replace("'exec' ", 'exec ');
  expect(execFileSync('/bin/sh', ['-c', line]).toString().split('\0').slice(0, -1)).toEqual(hostile);
});

test('what is run is told before, as one line or more of text and nothing else', () => {
  const script = scriptOf({ spec: { image: 'base', setup: [['true', ...hostile]], files: [] }, files: [] });
  const telling = script.slice(script.indexOf('printf'), script.indexOf("\n'true'"));
  expect(execFileSync('/bin/sh', ['-c', telling]).toString()).toBe(`+ true ${hostile.join(' ')}\n`);
});

test('the files that were brought are taken away again, whatever they are called', () => {
  const file = { path: "a'b/$(id)", mode: 0o644, digest: `sha256:${'0'.repeat(64)}` } as const;
  const script = scriptOf({ spec: { image: 'base', setup: [['true']], files: [] }, files: [file] });
  expect(script).toContain("rm -f -- '/workspace/a'\\''b/$(id)'");
});

describe('the bundle of authorities of an image', () => {
  const laid = '/run/glovebox/ca.pem';
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'setup-script-'));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  /** What the script does about it before (0) and after (1) the commands, below `root` instead of `/`. */
  function step(which: 0 | 1): void {
    const script = scriptOf({ spec: { image: 'base', setup: [['true']], files: [] }, files: [] });
    const lines = script.split('\n').filter((line) => line.startsWith('if ['));
    const own = (which === 0 ? lines.slice(0, 2) : lines.slice(2)).join('\n');
    if (which === 1) rmSync(dirname(join(root, laid)), { recursive: true, force: true }); // as the script does
    execFileSync('/bin/sh', ['-ec', own.replaceAll(/\/(?=etc\/ssl|opt\/glovebox|run\/glovebox)/g, `${root}/`)]);
  }
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const read = (path: string): string => readFileSync(join(root, path), 'utf8');

  test('is a link to what a sandbox trusts, and leads to the same as before where there is none', () => {
    put(systemBundle, 'own');
    step(0);
    expect(existsSync(join(root, keptBundle))).toBe(false);
    step(1);
    expect(readlinkSync(join(root, systemBundle))).toBe(join(root, laid));
    expect([read(systemBundle), read(keptBundle)]).toEqual(['own', 'own']);
    // An environment on this one, with another authority installed meanwhile.
    step(0);
    expect(readFileSync(join(root, systemBundle), 'utf8')).toBe('own');
    rmSync(join(root, systemBundle));
    put(systemBundle, 'newer');
    step(1);
    expect([read(systemBundle), read(keptBundle)]).toEqual(['newer', 'newer']);
  });

  test('is that of the fence while setup runs behind one', () => {
    put(systemBundle, 'own');
    put(laid, 'own and the fence');
    step(0);
    expect(read(systemBundle)).toBe('own and the fence');
    step(1);
    expect([read(systemBundle), read(keptBundle)]).toEqual(['own', 'own']);
  });

  test('is not made where the image has none', () => {
    put(laid, 'the fence');
    step(0);
    step(1);
    for (const path of [systemBundle, keptBundle, laid]) expect(existsSync(join(root, path)), path).toBe(false);
  });
});
