import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newId } from '../../ids.ts';
import { unjudged } from '../judgement.ts';
import { Lanes } from '../lanes.ts';
import { someFacts } from '../some-facts.fixture.ts';
import { groupings } from '../stats.ts';
import { statsPage } from './page.ts';

const nowMs = Date.parse('2026-02-01T00:00:00.000Z');
const dayMs = 86_400_000;
const hostile = [
  '<img src=x onerror="window.hacked=1">',
  '</script><script>window.hacked=1</script>',
  `"'\`onmouseover=window.hacked=1 x=`,
  '<!--<script>',
  '\u202e&lt;\u2028',
];

function pageOf(runs: number): Promise<string> {
  const lanes = new Lanes({ nowMs });
  for (let at = 0; at < runs; at++)
    lanes.add(
      someFacts({
        run: newId(),
        openedAt: new Date(nowMs - 20 * dayMs + at * (dayMs / 4)).toISOString(),
        lane: hostile[at % hostile.length] ?? null,
        models: [['small', 'large'][at % 2] ?? ''],
        failures: { policy: at % 3, semantic_defect: at % 5 },
        ms: 20_000 + (at % 7) * 9000,
      }),
      { ...unjudged, acceptedAt: at % 2 === 0 ? new Date(nowMs - 10 * dayMs).toISOString() : null },
    );
  return statsPage(groupings.map((by) => lanes.stats(by)));
}

test('the page names no address, and its policy allows the scripts and styles that stand in it and nothing else', async () => {
  const page = await pageOf(80);
  const [, policy = ''] = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page) ?? [];
  const inline = [...page.matchAll(/<(script|style)>([^]*?)<\/\1>/g)];
  const allowed = inline.map(([, , text = '']) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`);
  expect(inline.map(([, element]) => element)).toEqual(['style', 'script', 'script']);
  const [style, ...scripts] = allowed;
  expect(policy).toBe(
    `default-src 'none'; script-src ${scripts.join(' ')}; style-src ${style}; base-uri 'none'; form-action 'none'`,
  );
  expect(page).not.toMatch(/(?:src|href|action)\s*=\s*["']?https?:|@import|url\(/);
});

test('hostile names are text, in the tables and in the data', async () => {
  const page = await pageOf(80);
  expect(page).not.toContain('<img');
  expect(page).not.toContain('</script><script>window');
  expect(page).not.toContain('\u202e');
  expect(page).toContain('&#60;img src=x onerror=&#34;window.hacked=1&#34;&#62;');
});

test('of no runs there is a page that says so', async () => {
  const page = await pageOf(0);
  expect(page).toContain('No run was closed in this time');
  expect(page.slice(page.indexOf('<main>'), page.indexOf('</main>'))).not.toMatch(/NaN|undefined|Infinity/);
});

const browsers = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = browsers.find((path) => existsSync(path));

describe.runIf(executablePath !== undefined)('in a browser', () => {
  let home: string;
  let browser: Browser;
  let server: Server;
  let asked: number;
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'glovebox-page-'));
    await writeFile(join(home, 'page.html'), await pageOf(80));
    await writeFile(join(home, 'empty.html'), await pageOf(0));
    browser = await chromium.launch(executablePath === undefined ? {} : { executablePath });
    asked = 0;
    server = createServer((_, response) => response.end(String(++asked))).listen(0, '127.0.0.1');
  }, 60_000);
  afterAll(async () => {
    await browser.close();
    server.close();
    await rm(home, { recursive: true, force: true });
  });

  async function open(name: string, view: Parameters<Browser['newContext']>[0] = {}): Promise<[Page, string[]]> {
    const context = await browser.newContext(view);
    const page = await context.newPage();
    const said: string[] = [];
    page.on('console', (message) => said.push(message.text()));
    page.on('pageerror', (error) => said.push(error.message));
    page.on('request', (request) => {
      if (!request.url().startsWith('file:')) said.push(request.url());
    });
    await page.goto(`file://${home}/${name}`);
    return [page, said];
  }

  /** How many pixels of the first plot are drawn on. */
  const inkOf = (page: Page): Promise<number> =>
    page.evaluate(`(() => {
      const canvas = document.querySelector('.plot canvas');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value > 0).length;
    })()`);

  test('tables and plots are there, nothing complains, nothing is asked for, and no name is obeyed', async () => {
    const [page, said] = await open('page.html');
    await page.waitForSelector('.uplot');
    expect(await page.locator('.plot canvas').count()).toBe(3);
    expect(await inkOf(page)).toBeGreaterThan(1000);
    const rows = await page.locator('#view-lane .scroll table').first().locator('tbody th').allTextContents();
    expect(rows).toContain(hostile[0]);
    expect(rows).toContain(hostile[1]);
    expect(await page.locator('.u-legend').allTextContents()).toEqual(
      expect.arrayContaining([expect.stringContaining(hostile[0]?.slice(0, 30) ?? '')]),
    );
    expect(await page.evaluate('window.hacked')).toBeUndefined();
    expect(said).toEqual([]);
  });

  test('every grouping has its tab, with plots of its own', async () => {
    const [page, said] = await open('page.html');
    await page.click('#tab-model');
    await page.waitForSelector('#view-model .uplot');
    expect(await page.locator('#view-lane').isVisible()).toBe(false);
    expect(await page.locator('#view-model .scroll table').first().locator('tbody th').allTextContents()).toEqual(
      expect.arrayContaining(['small', 'large', 'all']),
    );
    await page.selectOption('#view-model select', { label: 'small' });
    expect(await page.locator('#view-model .plot canvas').count()).toBe(3);
    expect(said).toEqual([]);
  });

  test('it is dark where the reader likes it, and where they say so', async () => {
    const backOf = (page: Page) => page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
    const [light] = await open('page.html', { colorScheme: 'light' });
    const [dark] = await open('page.html', { colorScheme: 'dark' });
    const [before, other] = [await backOf(light), await backOf(dark)];
    expect(other).not.toBe(before);
    await light.click('#theme');
    expect(await backOf(light)).toBe(other);
  });

  test('on a telephone nothing is wider than the screen', async () => {
    const [page] = await open('page.html', { viewport: { width: 360, height: 740 } });
    await page.waitForSelector('.uplot');
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
  });

  test('whatever a script on it would try, it reaches no server', async () => {
    const [page, said] = await open('page.html');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const tried = `(async () => {
      const image = new Image();
      image.src = ${JSON.stringify(url)};
      navigator.sendBeacon?.(${JSON.stringify(url)});
      return fetch(${JSON.stringify(url)}).then(() => 'answered', () => 'refused');
    })()`;
    expect(await page.evaluate(tried)).toBe('refused');
    await expect.poll(() => said.filter((line) => /Content Security Policy/.test(line)).length).toBeGreaterThan(1);
    expect(asked).toBe(0);
  });

  test('a page of nothing complains of nothing', async () => {
    const [page, said] = await open('empty.html');
    expect(await page.locator('main').textContent()).toContain('nothing to show');
    expect(said).toEqual([]);
  });
});

if (executablePath === undefined)
  test('no browser looks at the page: there is none here', ({ skip }) => {
    skip(`none of ${browsers.join(', ')} is installed; apt-get install chromium`);
  });
