import { expect, test } from 'vitest';
import { mountOptionsOf, mountPointsIn } from './mount-info.ts';

const text = String.raw`22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 254:0 /srv/a\040b /mnt/a\040b ro,nosuid,nodev shared:9 - ext4 /dev/vda rw
41 22 0:40 / /mnt/x\134y rw - tmpfs tmpfs rw
42 22 0:41 / /mnt/a\040b rw,nosuid - tmpfs tmpfs rw
`;

test('mount points are read with the blanks and backslashes they have', () => {
  expect(mountPointsIn(text)).toEqual(expect.arrayContaining(['/', '/mnt/a b', '/mnt/x\\y']));
});

test('of several mounts on one place the last counts; where nothing is mounted there are no options', () => {
  expect(mountOptionsOf(text, '/mnt/a b')).toEqual(['rw', 'nosuid']);
  expect(mountOptionsOf(text, '/mnt')).toBeUndefined();
});
