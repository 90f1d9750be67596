import { closeSync, constants, openSync } from 'node:fs';

/**
 * A way to a socket in a directory whose path may be longer than a socket's address can hold (108 bytes, unix(7)): through
 * the open directory. Valid until `close`.
 */
export class SocketPlace {
  readonly path: string;
  readonly #fd: number;
  #isOpen = true;

  private constructor(fd: number) {
    this.#fd = fd;
    this.path = `/proc/self/fd/${fd}/${socketName}`;
  }

  static open(directory: string): SocketPlace {
    return new SocketPlace(openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW));
  }

  /** Twice is fine. */
  close(): void {
    if (this.#isOpen) closeSync(this.#fd);
    this.#isOpen = false;
  }
}

const socketName = 'control.sock';
