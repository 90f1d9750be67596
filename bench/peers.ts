import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import Docker from 'dockerode';
import { execa } from 'execa';
import tar from 'tar-stream';

/** How the same work is done with the engine's own exec and archive APIs, through dockerode: the peer of most rows. */
export class DockerodePeer {
  readonly docker: Docker;
  readonly network = `glovebox-bench-${process.pid}`;
  readonly #image: string;
  #container: Docker.Container | undefined;
  #network: Docker.Network | undefined;

  constructor(image: string) {
    this.docker = new Docker();
    this.#image = image;
  }

  /** On a bridge network of its own: the default one can be missing on a host. */
  async open(): Promise<void> {
    this.#network = await this.docker.createNetwork({
      Name: this.network,
      Driver: 'bridge',
      Labels: { 'glovebox.bench': '1' },
    });
    this.#container = await this.#create();
  }

  async close(): Promise<void> {
    await this.#container?.remove({ force: true });
    await this.#network?.remove();
  }

  get id(): string {
    if (this.#container === undefined) throw new Error('open() first');
    return this.#container.id;
  }

  /** create, start, demultiplex to the end, inspect: what a caller has to do to know the output and the exit code. */
  async exec(argv: string[], container = this.docker.getContainer(this.id)): Promise<number> {
    const exec = await container.exec({ Cmd: argv, AttachStdout: true, AttachStderr: true });
    const stream = await exec.start({});
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    let bytes = 0;
    stdout.on('data', (chunk: Buffer) => (bytes += chunk.length));
    stderr.resume();
    this.docker.modem.demuxStream(stream, stdout, stderr);
    await finished(stream, { writable: false });
    stdout.end();
    await finished(stdout);
    const { ExitCode } = await exec.inspect();
    if (ExitCode !== 0) throw new Error(`exit ${ExitCode}`);
    return bytes;
  }

  /** Open to first result: create, start, exec, on a bridge network as containers have by default. */
  async cold(): Promise<() => Promise<void>> {
    const container = await this.#create();
    await this.exec(['echo', 'hi'], container);
    return () => container.remove({ force: true });
  }

  async write(path: string, bytes: Buffer): Promise<void> {
    const pack = tar.pack();
    pack.entry({ name: path }, bytes);
    pack.finalize();
    await this.docker.getContainer(this.id).putArchive(pack as unknown as NodeJS.ReadableStream, { path: '/tmp' });
  }

  async read(path: string): Promise<number> {
    const stream = await this.docker.getContainer(this.id).getArchive({ path: `/tmp/${path}` });
    const extract = tar.extract();
    let bytes = 0;
    extract.on('entry', (_header, entry, next) => {
      entry.on('data', (chunk) => (bytes += (chunk as Buffer).length));
      entry.on('end', next);
    });
    stream.pipe(extract);
    await new Promise<void>((resolve, reject) => extract.on('finish', () => resolve()).on('error', reject));
    return bytes;
  }

  async #create(): Promise<Docker.Container> {
    const container = await this.docker.createContainer({
      Image: this.#image,
      Cmd: ['sleep', 'infinity'],
      Labels: { 'glovebox.bench': '1' },
      HostConfig: { NetworkMode: this.network, Init: true },
    });
    await container.start();
    return container;
  }
}

/** The same echo through the docker command. */
export async function dockerCliEcho(id: string): Promise<void> {
  await execa('docker', ['exec', id, 'echo', 'hi']);
}
