import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { printable } from '../../journal/printable.ts';
import type { Grouping, Numbers, Stats } from '../stats.ts';
import { countText, growthText, medianText, p95Text, shareText } from '../texts.ts';
import { escapeHtml, scriptJson } from './escape.ts';
import { tablesOf } from './tables.ts';
import { shipped } from '../../shipped.ts';

/**
 * One page with all of it: tables, plots, the library that draws them, and no other file. Promises:
 *  - it loads nothing and sends nothing: its content security policy allows what stands in it, by digest, and no address;
 *  - names of lanes, models and policies are text on it, whatever they are.
 * `all`: one of each grouping, the one to begin with first.
 */
export async function statsPage(all: readonly Stats[]): Promise<string> {
  const [library, plots, libraryStyle, style] = await Promise.all([
    readFile(require.resolve('uplot/dist/uPlot.iife.min.js'), 'utf8'),
    readFile(shipped('src/stats/page/plots.js'), 'utf8'),
    readFile(require.resolve('uplot/dist/uPlot.min.css'), 'utf8'),
    readFile(shipped('src/stats/page/page.css'), 'utf8'),
  ]);
  const styles = `${libraryStyle}\n${style}`;
  const policy = [
    "default-src 'none'",
    `script-src ${sourceOf(library)} ${sourceOf(plots)}`,
    `style-src ${sourceOf(styles)}`,
    "base-uri 'none'",
    "form-action 'none'",
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy.join('; ')}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Glovebox: what runs took</title>
<style>${styles}</style>
</head>
<body>
${bodyOf(all)}
<script type="application/json" id="stats">${scriptJson(all.map(plotted))}</script>
<script>${library}</script>
<script>${plots}</script>
</body>
</html>
`;
}

const require = createRequire(import.meta.url);

function sourceOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

function bodyOf(all: readonly Stats[]): string {
  const [first] = all;
  if (first === undefined || first.all.runs === 0)
    return `<main><h1>Glovebox</h1><p class="panel">No run was closed in this time: there is nothing to show.</p></main>`;
  const { from, to, seen } = first;
  const tabs = all.map(({ by }, at) => tab(by, at === 0)).join('');
  const left = `${seen.open} open, ${seen.made} made to verify or replay others, ${seen.unreadable + seen.unread} not read`;
  return `<header>
<h1>What runs took, and what became of them</h1>
<p class="quiet">${escapeHtml(from?.slice(0, 10) ?? '')} to ${escapeHtml(to.slice(0, 10))} · left out: ${left}</p>
<nav><div role="tablist" aria-label="put together by">${tabs}</div><button id="theme" type="button">light / dark</button></nav>
</header>
<main>
${tilesOf(first.all)}
${all.map((stats, at) => viewOf(stats, at === 0)).join('\n')}
<p class="quiet">? = too few to say much: fewer than 5 for a median, 20 for p95, 10 for a share. Bars show shares, the lines on them
where the true share lies, 95 times in 100. docs/stats.md defines every number.</p>
<noscript><p class="quiet">Without scripts there are tables and no plots.</p></noscript>
</main>`;
}

function tab(by: Grouping, isFirst: boolean): string {
  return `<button type="button" role="tab" id="tab-${by}" data-by="${by}" aria-selected="${isFirst}" aria-controls="view-${by}">${by}</button>`;
}

function viewOf(stats: Stats, isFirst: boolean): string {
  const { by } = stats;
  return `<div role="tabpanel" id="view-${by}" aria-labelledby="tab-${by}"${isFirst ? '' : ' hidden'}>
<div class="plots">
<section class="panel"><h2>Failures and accepted changes</h2><label class="quiet">of <select data-select="${by}"></select></label>
<div class="plot" data-plot="outcomes" data-by="${by}"></div></section>
<section class="panel"><h2>Median completion time</h2><div class="plot" data-plot="time" data-by="${by}"></div></section>
<section class="panel"><h2>Runs</h2><div class="plot" data-plot="runs" data-by="${by}"></div></section>
</div>
${tablesOf(stats)}
</div>`;
}

function tilesOf(all: Numbers): string {
  const { runs, outcomes, accepted, firstReview, rolledBack, completionMs, failures, growth } = all;
  const tiles = [
    ['Runs', countText(runs), `${countText(outcomes.finished)} finished`],
    ['Accepted changes', countText(accepted), `of ${countText(runs)} runs`],
    ['Accepted at first review', shareText(firstReview), 'of reviewed changes'],
    ['Rolled back', shareText(rolledBack), 'of promotions'],
    ['Completion', medianText(completionMs), `p95 ${p95Text(completionMs)}`],
    ['Failures', countText(failures.total), growthText(growth).replace(/ \(.*$/, '')],
  ].map(
    ([title = '', value = '', about = '']) =>
      `<div class="tile"><span>${escapeHtml(title)}</span><strong>${escapeHtml(value)}</strong><span class="quiet">${escapeHtml(about)}</span></div>`,
  );
  const alarm = growth.verdict === 'grows_faster' ? `<p class="alarm">▲ ${escapeHtml(growthText(growth))}</p>` : '';
  return `${alarm}<div class="tiles">${tiles.join('')}</div>`;
}

/** What the plots are drawn from. */
function plotted({ by, buckets, all, groups }: Stats): object {
  const lineOf = (name: string, { timeline }: Numbers): object => ({ name: printable(name), ...timeline });
  return {
    by,
    starts: buckets.starts.map((at) => Date.parse(at) / 1000),
    groups: [lineOf('all', all), ...groups.map(({ name, numbers }) => lineOf(name, numbers))],
  };
}
