/* Draws the plots of the page; in a browser, with uPlot before it. Names come from outside: they are only ever text. */
'use strict';
(() => {
  const views = JSON.parse(document.getElementById('stats').textContent);
  const colors = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#999999'];
  const linesMax = 6;
  const drawn = new Map();

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const viewOf = (by) => views.find((view) => view.by === by);

  function timeText(ms) {
    if (ms < 1000) return `${Math.round(ms)} ms`;
    if (ms < 60_000) return `${+(ms / 1000).toFixed(1)} s`;
    if (ms < 3_600_000) return `${+(ms / 60_000).toFixed(1)} min`;
    return `${+(ms / 3_600_000).toFixed(1)} h`;
  }

  /** UTC, as the tables have it; with the hour where a bucket is shorter than a day. */
  function dayText(view, seconds) {
    const at = new Date(seconds * 1000).toISOString();
    const isShort = view.starts.length > 1 && view.starts[1] - view.starts[0] < 86_400;
    return isShort ? `${at.slice(5, 10)} ${at.slice(11, 13)}h` : at.slice(0, 10);
  }

  function axes(view, format) {
    const common = {
      stroke: css('--quiet'),
      grid: { stroke: css('--line'), width: 1 },
      ticks: { stroke: css('--line') },
    };
    const day = (at) => dayText(view, at).slice(view.starts[1] - view.starts[0] < 86_400 ? 0 : 5);
    return [
      { ...common, space: 70, values: (_, splits) => splits.map(day) },
      { ...common, size: 62, values: (_, splits) => splits.map((at) => (at === null ? '' : format(at))) },
    ];
  }

  function line(name, color, format, more = {}) {
    const value = (_, at) => (at === null || at === undefined ? '–' : format(at));
    const label = name.length > 40 ? `${name.slice(0, 39)}…` : name;
    return { label, stroke: color, width: 2, value, points: { size: 5 }, spanGaps: true, ...more };
  }

  const timeOf = (view) => ({ label: 'from', value: (_, at) => (at === null ? '–' : dayText(view, at)) });
  const count = (n) => String(Math.round(n * 100) / 100);

  /** Accepted changes as bars, failures as a line, of the group that is selected. */
  function outcomes(view, chosen) {
    const group = view.groups[chosen] ?? view.groups[0];
    const bars = {
      paths: uPlot.paths.bars({ size: [0.7, 40] }),
      fill: `${colors[2]}99`,
      points: { show: false },
      width: 1,
    };
    return {
      data: [view.starts, group.accepted, group.failures, group.runs],
      series: [
        timeOf(view),
        line('accepted', colors[2], count, bars),
        line('failures', colors[5], count),
        line('runs', css('--quiet'), count, { dash: [4, 4], width: 1 }),
      ],
      format: count,
    };
  }

  function ofGroups(view, key, format) {
    const shown = view.groups.length === 2 ? view.groups.slice(1) : view.groups.slice(0, linesMax + 1);
    return {
      data: [view.starts, ...shown.map((group) => group[key])],
      series: [
        timeOf(view),
        ...shown.map((group, at) =>
          line(group.name, at === 0 ? css('--text') : colors[(at - 1) % colors.length], format),
        ),
      ],
      format,
    };
  }

  function draw(place) {
    drawn.get(place)?.destroy();
    const view = viewOf(place.dataset.by);
    const select = document.querySelector(`[data-select="${view.by}"]`);
    const what = {
      outcomes: () => outcomes(view, Number(select.value || 0)),
      time: () => ofGroups(view, 'medianMs', timeText),
      runs: () => ofGroups(view, 'runs', count),
    }[place.dataset.plot]();
    const width = Math.max(200, place.clientWidth);
    const scales = { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(1, (max ?? 1) * 1.05)] } };
    const options = {
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC'),
      width,
      height: 230,
      series: what.series,
      axes: axes(view, what.format),
      scales,
      cursor: { y: false },
    };
    drawn.set(place, new uPlot(options, what.data, place));
  }

  const visible = () => [...document.querySelectorAll('.plot')].filter((place) => place.clientWidth > 0);
  const drawAll = () => visible().forEach(draw);

  for (const view of views) {
    const select = document.querySelector(`[data-select="${view.by}"]`);
    if (select === null) continue;
    view.groups.forEach((group, at) => select.append(new Option(group.name, String(at))));
    select.addEventListener('change', drawAll);
  }
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  for (const tab of tabs)
    tab.addEventListener('click', () => {
      for (const other of tabs) {
        other.setAttribute('aria-selected', String(other === tab));
        document.getElementById(`view-${other.dataset.by}`).hidden = other !== tab;
      }
      drawAll();
    });
  document.getElementById('theme')?.addEventListener('click', () => {
    const { dataset } = document.documentElement;
    const isDark =
      dataset.theme === undefined ? matchMedia('(prefers-color-scheme: dark)').matches : dataset.theme === 'dark';
    dataset.theme = isDark ? 'light' : 'dark';
    drawAll();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    drawAll();
  }).observe(document.body);
})();
