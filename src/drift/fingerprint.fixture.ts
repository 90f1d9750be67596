import { fingerprintOf, sectionFrom, type Fingerprint, type Sections } from './fingerprint.ts';

/** One of a sandbox; `over` takes the place of its sections. */
export function someFingerprint(over: Sections = {}): Fingerprint {
  return fingerprintOf('sandbox', new Date('2026-01-02T03:04:05.678Z'), {
    packages: sectionFrom({ git: '1:2.39' }),
    system_files: sectionFrom({ '/etc/hosts': 'file' }),
    kernel: sectionFrom({ release: '6.1' }),
    env: sectionFrom({ TZ: 'UTC' }),
    clock: sectionFrom({ skew_ms: 3 }),
    ...over,
  });
}
