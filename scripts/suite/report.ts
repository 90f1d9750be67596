import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';
import type { Report } from './verdict.ts';

/** Writes what a run came to, errors that belong to no test included: vitest's own JSON does not have those. */
export class ReportWriter implements Reporter {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const report: Report = { files: modules.map(fileOf), errors: errors.map(({ message }) => message) };
    writeFileSync(this.#path, JSON.stringify(report));
  }
}

function fileOf(module: TestModule): Report['files'][number] {
  const tests = [...module.children.allTests()].map((test) => {
    const { state } = test.result();
    // One that was never begun is not one that passed.
    return { name: test.fullName, state: state === 'pending' ? ('failed' as const) : state };
  });
  const suites = [...module.children.allSuites()];
  const [error] = [...module.errors(), ...suites.flatMap((suite) => suite.errors())];
  const file = relative(process.cwd(), module.moduleId);
  return { file, tests, ...(error === undefined ? {} : { error: error.message }) };
}
