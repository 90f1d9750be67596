/** What a workspace may hold, on the way in and on the way out. */
export interface WorkspaceLimits {
  /** Files, links and directories together. */
  readonly filesMax: number;
  readonly bytesMax: number;
  readonly fileBytesMax: number;
  /** Of a whole path; a single name is held to 255 by the file system. */
  readonly pathBytesMax: number;
  readonly depthMax: number;
}

export const defaultLimits: WorkspaceLimits = {
  filesMax: 200_000,
  bytesMax: 2 * 1024 ** 3,
  fileBytesMax: 512 * 1024 ** 2,
  pathBytesMax: 4096,
  depthMax: 128,
};
