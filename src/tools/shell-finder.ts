import { FileError, type Files } from '../sandbox/spec.ts';

const bashPaths = ['/bin/bash', '/usr/bin/bash', '/usr/local/bin/bash'];

/** Which shell an image has. Looked up once a sandbox, as the root file system is read-only. */
export class ShellFinder {
  readonly #files: Files;
  #bash: Promise<string | undefined> | undefined;

  constructor(files: Files) {
    this.#files = files;
  }

  /** `bash` asks for it by name even where it was not found, so that the outcome says what is missing. */
  async find(wanted: 'bash' | 'sh' | undefined): Promise<string> {
    if (wanted === 'sh') return '/bin/sh';
    this.#bash ??= this.#findBash();
    const found = await this.#bash;
    return found ?? (wanted === 'bash' ? 'bash' : '/bin/sh');
  }

  async #findBash(): Promise<string | undefined> {
    for (const path of bashPaths) {
      try {
        const entry = await this.#files.stat(path);
        if (entry.type === 'file' && (entry.mode & 0o111) !== 0) return path;
      } catch (error) {
        if (!(error instanceof FileError)) {
          this.#bash = undefined;
          throw error;
        }
      }
    }
    return undefined;
  }
}
