import type { Readable } from 'node:stream';
import { RunnerError, messageOf } from '../../errors.ts';
import type { ImageConfig, ImageFacts, Labels } from '../engine.ts';
import { carries } from '../labels.ts';
import { type ImageAnswer, imageAnswer, imagesAnswer } from './answers.ts';
import type { ImageDefaults } from './body.ts';
import { type DockerCalls, isAnswer, pathOf } from './calls.ts';
import { failed } from './containers.ts';
import type { Timeouts } from './timeouts.ts';

/** Images as the engine holds them. None is ever pulled. */
export class Images {
  readonly #calls: DockerCalls;
  readonly #timeouts: Timeouts;
  /** By id, which names the content: it cannot change. */
  readonly #defaults = new Map<string, ImageDefaults>();

  constructor(calls: DockerCalls, timeouts: Timeouts) {
    this.#calls = calls;
    this.#timeouts = timeouts;
  }

  /** What the image would add to a container by itself; `image_not_found` when it is not there. */
  async defaultsOf(id: string): Promise<ImageDefaults> {
    const known = this.#defaults.get(id);
    if (known !== undefined) return known;
    const answer = await this.#read(id);
    if (answer === undefined) {
      throw new RunnerError('image_not_found', `The engine has no image ${id}. Build or import it (\`make images\`).`);
    }
    const defaults = { env: answer.Config?.Env ?? [], volumes: Object.keys(answer.Config?.Volumes ?? {}) };
    if (this.#defaults.size >= defaultsMax) this.#defaults.clear();
    this.#defaults.set(id, defaults);
    return defaults;
  }

  async find(reference: string): Promise<ImageFacts | undefined> {
    const answer = await this.#read(reference);
    return answer === undefined ? undefined : factsOf(answer);
  }

  async list(labels: Labels): Promise<readonly ImageFacts[]> {
    const wanted = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
    const path = pathOf(['images', 'json'], wanted.length === 0 ? {} : { filters: JSON.stringify({ label: wanted }) });
    const call = { what: 'list images', method: 'GET', path, timeoutMs: this.#timeouts.readMs } as const;
    try {
      const found: ImageFacts[] = [];
      for (const { Id } of await this.#calls.json(call, imagesAnswer)) {
        const facts = await this.find(Id);
        if (facts !== undefined && carries(facts.labels, labels)) found.push(facts);
      }
      return found;
    } catch (error) {
      throw failed(call.what, error);
    }
  }

  async import(tar: Readable, image: ImageConfig): Promise<string> {
    const { repo, tag } = splitTag(image.tag);
    const changes = [
      ...image.env.map((variable) => `ENV ${assignment(variable)}`),
      ...Object.entries(image.labels).map(([key, value]) => `LABEL ${assignment(`${key}=${value}`)}`),
    ];
    const platform = `linux/${image.architecture}`;
    const path = pathOf(['images', 'create'], { fromSrc: '-', repo, tag, platform, changes });
    const call = {
      what: `import image ${image.tag}`,
      method: 'POST',
      path,
      body: tar,
      contentType: 'application/x-tar',
    } as const;
    try {
      const id = importedId(await this.#calls.text({ ...call, timeoutMs: this.#timeouts.importMs }));
      const facts = await this.find(id);
      // What is not as asked would be trusted later by its labels.
      if (facts === undefined || !carries(facts.labels, image.labels))
        throw new Error('its labels are not those that were asked');
      return id;
    } catch (error) {
      throw taken(call.what, error);
    } finally {
      tar.destroy();
    }
  }

  async load(archive: Readable): Promise<void> {
    const path = pathOf(['images', 'load'], { quiet: '1' });
    const call = {
      what: 'load an image',
      method: 'POST',
      path,
      body: archive,
      contentType: 'application/x-tar',
    } as const;
    try {
      const text = await this.#calls.text({ ...call, timeoutMs: this.#timeouts.importMs });
      messagesOf(text);
    } catch (error) {
      throw taken(call.what, error);
    } finally {
      archive.destroy();
    }
  }

  async save(id: string): Promise<Readable> {
    // Asked first: the engine answers 500 for an image that it has not.
    if ((await this.#read(id)) === undefined) {
      throw new RunnerError('image_not_found', `The engine has no image ${id}. Build or import it (\`make images\`).`);
    }
    const call = { what: `save image ${id}`, method: 'GET', path: pathOf(['images', id, 'get']) } as const;
    try {
      return await this.#calls.stream({ ...call, timeoutMs: this.#timeouts.importMs });
    } catch (error) {
      throw failed(call.what, error);
    }
  }

  async remove(reference: string): Promise<void> {
    const call = { what: `remove image ${reference}`, method: 'DELETE', path: pathOf(['images', reference]) } as const;
    try {
      await this.#calls.text({ ...call, timeoutMs: this.#timeouts.destroyMs });
    } catch (error) {
      if (!isAnswer(error, 404)) throw failed(call.what, error);
    }
  }

  async #read(reference: string): Promise<ImageAnswer | undefined> {
    const call = {
      what: `inspect image ${reference}`,
      method: 'GET',
      path: pathOf(['images', reference, 'json']),
    } as const;
    try {
      return await this.#calls.json({ ...call, timeoutMs: this.#timeouts.readMs }, imageAnswer);
    } catch (error) {
      // 400 is a reference that cannot be one: no image has that name either.
      if (isAnswer(error, 404, 400)) return undefined;
      throw failed(call.what, error);
    }
  }
}

const defaultsMax = 256;

function factsOf(answer: ImageAnswer): ImageFacts {
  return {
    id: answer.Id,
    tags: answer.RepoTags ?? [],
    labels: answer.Config?.Labels ?? {},
    bytes: answer.Size,
    createdMs: Date.parse(answer.Created ?? '') || 0,
    architecture: answer.Architecture,
  };
}

function splitTag(reference: string): { repo: string; tag: string } {
  const colon = reference.lastIndexOf(':');
  if (colon <= reference.lastIndexOf('/')) return { repo: reference, tag: 'latest' };
  return { repo: reference.slice(0, colon), tag: reference.slice(colon + 1) };
}

/** `NAME="value"` as the engine's instruction parser reads it: it expands `$` and ends at a quote. */
function assignment(variable: string): string {
  const equals = variable.indexOf('=');
  const name = variable.slice(0, equals);
  const value = variable.slice(equals + 1);
  if (!/^[\w.-]+$/.test(name) || /[\r\n\0]/.test(value)) {
    throw new RunnerError('invalid_request', `${JSON.stringify(variable)} cannot be written into an image.`);
  }
  return `${name}="${value.replaceAll(/[\\"$]/g, '\\$&')}"`;
}

/** A JSON object a line; failures arrive with status 200. */
function messagesOf(text: string): readonly { status?: string }[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const messages = lines.map((line) => JSON.parse(line) as { status?: string; error?: string });
  const refusal = messages.find((message) => message.error !== undefined);
  if (refusal?.error !== undefined) throw new Error(refusal.error);
  return messages;
}

/** The last status is the id. */
function importedId(text: string): string {
  const id = messagesOf(text).at(-1)?.status;
  if (id === undefined || !/^(sha256:)?[0-9a-f]{64}$/.test(id)) throw new Error('the answer holds no image id');
  return id.startsWith('sha256:') ? id : `sha256:${id}`;
}

function taken(what: string, error: unknown): unknown {
  if (error instanceof RunnerError || isAnswer(error)) return failed(what, error);
  return new RunnerError('engine_failed', `The engine failed to ${what}: ${messageOf(error)}.`, { cause: error });
}
