import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { Bed, Shared } from './bed.ts';
import { EgressBed } from './egress-bed.ts';
import type { Row } from './measure.ts';
import { DockerodePeer } from './peers.ts';
import { rows } from './rows.ts';
import { LargeBed } from './workspace-bed.ts';

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
const large = new Shared(() => LargeBed.make(bed));
const egress = new Shared(() => EgressBed.make(bed));
const report: Row[] = [];
try {
  await peer.open();
  console.log(line(['ROW', 'OURS', 'PEER', 'RATIO', 'TARGET', '', 'TOOK']));
  for (const name of wanted) {
    const started = performance.now();
    const found = (await rows[name]?.({ bed, peer, large, egress })) ?? [];
    const took = seconds(started);
    for (const [at, row] of found.entries()) {
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
          at === 0 ? took : '',
        ]),
      );
    }
  }
} finally {
  await egress.close();
  await large.close();
  await peer.close();
  await bed.close();
}
console.log(`in all ${seconds(0)}`);
if (values.rows === undefined)
  await writeFile(new URL('report.json', import.meta.url), `${JSON.stringify(report, null, 2)}\n`);
process.exitCode = report.every((row) => row.met) ? 0 : 1;

/** Since then, setting up and taking down included; since 0: of this process. */
function seconds(startedMs: number): string {
  return `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;
}

function line(cells: readonly string[]): string {
  const widths = [32, 18, 58, 9, 24, 6, 8];
  return cells
    .map((cell, column) => cell.padEnd(widths[column] ?? 0))
    .join(' ')
    .trimEnd();
}
