import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
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
