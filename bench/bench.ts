import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { Bed } from './bed.ts';
import type { Row } from './measure.ts';
import { DockerodePeer } from './peers.ts';
import { rows } from './rows.ts';

/** Side by side with peers, in one run. Prints a table and writes `bench/report.json`; exit 1 when a target is missed. */
const { values } = parseArgs({ options: { rows: { type: 'string' } } });
const wanted = values.rows?.split(',') ?? Object.keys(rows);
const unknown = wanted.filter((name) => rows[name] === undefined);
if (unknown.length > 0) {
  console.error(`no such row: ${unknown.join(', ')}; there are: ${Object.keys(rows).join(', ')}`);
  process.exit(2);
}

const bed = await Bed.make();
const peer = new DockerodePeer(bed.image);
const report: Row[] = [];
try {
  await peer.open();
  console.log(line(['ROW', 'OURS', 'PEER', 'RATIO', 'TARGET', '']));
  for (const name of wanted) {
    for (const row of (await rows[name]?.({ bed, peer })) ?? []) {
      report.push(row);
      const theirs = row.peer === null ? '-' : `${row.peer} ${row.unit} (${row.peerName})`;
      console.log(
        line([
          row.name,
          `${row.ours} ${row.unit}`,
          theirs,
          row.ratio === null ? '-' : `${row.ratio}x`,
          row.target,
          row.met ? 'met' : 'MISSED',
        ]),
      );
    }
  }
} finally {
  await peer.close();
  await bed.close();
}
if (values.rows === undefined)
  await writeFile(new URL('report.json', import.meta.url), `${JSON.stringify(report, null, 2)}\n`);
process.exitCode = report.every((row) => row.met) ? 0 : 1;

function line(cells: readonly string[]): string {
  const widths = [32, 18, 58, 9, 24, 6];
  return cells
    .map((cell, column) => cell.padEnd(widths[column] ?? 0))
    .join(' ')
    .trimEnd();
}
