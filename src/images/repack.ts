import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { extract, pack, type Pack } from 'tar-stream';

/**
 * One tar of several, in order: what an engine adds to a container left out, folders once, no time later than `epoch`
 * (seconds). The same input gives the same bytes.
 */
export async function repack(sources: readonly string[], to: string, epoch: number): Promise<void> {
  const tar = pack();
  const writing = pipeline(tar, createWriteStream(to));
  const folders = new Set<string>();
  const copying = async (): Promise<void> => {
    for (const source of sources) await copyEntries(source, tar, folders, epoch);
    tar.finalize();
  };
  await Promise.all([writing, copying()]);
}

const engineMade = /^(\.dockerenv$|(dev|proc|sys|run|tmp)\/.|etc\/(hosts|hostname|resolv\.conf)$)/;

async function copyEntries(source: string, tar: Pack, folders: Set<string>, epoch: number): Promise<void> {
  const entries = extract();
  const reading = pipeline(createReadStream(source), entries);
  for await (const entry of entries) {
    const { header } = entry;
    const name = header.name.replace(/^(\.?\/)+/, '').replace(/\/+$/, '');
    const folder = header.type === 'directory';
    if (engineMade.test(name) || (folder && folders.has(name))) {
      entry.resume();
      continue;
    }
    if (folder) folders.add(name);
    const seconds = Math.min(Math.floor(header.mtime.getTime() / 1000), epoch);
    const linkname = header.type === 'link' ? header.linkname.replace(/^(\.?\/)+/, '') : header.linkname;
    const copy = tar.entry({
      ...header,
      name: folder ? `${name}/` : name,
      linkname,
      mtime: new Date(seconds * 1000),
      pax: null,
    });
    await pipeline(entry, copy);
  }
  await reading;
}
