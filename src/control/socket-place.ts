import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';

/**
 * A way to a socket in a directory whose path may be longer than a socket's address can hold (108 bytes, unix(7)): through
 * the open directory. Valid until `close`.
 */
export class SocketPlace {
  readonly path: string;
  readonly #directory: FileHandle;

  private constructor(directory: FileHandle) {
    this.#directory = directory;
    this.path = `/proc/self/fd/${directory.fd}/${socketName}`;
  }

  static async open(directory: string): Promise<SocketPlace> {
    return new SocketPlace(await open(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW));
  }

  close(): Promise<void> {
    return this.#directory.close();
  }
}

const socketName = 'control.sock';
