import { expect, test } from 'vitest';
import { publicRegistries } from '../registries/registries.ts';
import { findAptFiles } from './debian-mirror.ts';

const bookworm = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n';
const mirrors = [
  { url: 'http://mirror.example/debian/' },
  { url: 'https://other.example/debian/' },
  { url: 'https://mirror.example/debian-security/' },
];

test('apt of a Debian image asks the first mirror of each archive, signed by Debian, and nothing else', () => {
  const found = findAptFiles(mirrors, bookworm);
  const signed = 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]';
  expect(found?.sources.split('\n')).toEqual([
    `${signed} http://mirror.example/debian/ bookworm main`,
    `${signed} http://mirror.example/debian/ bookworm-updates main`,
    `${signed} https://mirror.example/debian-security/ bookworm-security main`,
    '',
  ]);
  expect(found?.configuration).toMatch(/sourcelist "\/run\/glovebox\/sources\.list"[^]*sourceparts "-"/);
});

test.each([
  ['an image of Debian that asks Debian itself', publicRegistries.debian, bookworm],
  ['an image of another distribution', mirrors, 'ID=ubuntu\nVERSION_CODENAME=noble\n'],
  ['an image that does not say what it is', mirrors, ''],
  ['an image whose name of a suite is none', mirrors, 'ID=debian\nVERSION_CODENAME="x main\\ndeb http://evil"\n'],
])('%s keeps its own sources', (_, archives, osRelease) => {
  expect(findAptFiles(archives, osRelease)).toBeUndefined();
});
