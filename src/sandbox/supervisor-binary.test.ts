import { expect, it } from 'vitest';
import { supervisorPath } from './supervisor-binary.ts';

it('knows one supervisor by what engines and Node call its architecture', () => {
  const names = (architectures: readonly string[]) => new Set(architectures.map((name) => supervisorPath(name)));
  expect(names(['x86_64', 'amd64', 'x64']).size).toBe(1);
  expect(names(['aarch64', 'arm64']).size).toBe(1);
});
