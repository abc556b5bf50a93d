# SPDX-License-Identifier: Apache-2.0
"""The look of the simulator's pages."""

from __future__ import annotations

STYLESHEET = """
:root {
  color-scheme: light dark;
  --page: #f5f6fa; --card: #fff; --line: #e4e7ee; --text: #1b2130; --muted: #667085; --soft: #f3f5f9;
  --accent: #0f766e; --accent-soft: #d5f2ee;
  --good: #15803d; --good-soft: #dcfce7; --busy: #1d4ed8; --busy-soft: #dbe7ff;
  --warn: #a15c07; --warn-soft: #fdf0d0; --bad: #b42318; --bad-soft: #fee4e2; --idle: #475467; --idle-soft: #eaecf1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1218; --card: #171c25; --line: #262d3a; --text: #e6eaf2; --muted: #93a0b5; --soft: #1d2430;
    --accent: #5eead4; --accent-soft: #113c3a;
    --good: #86efac; --good-soft: #12351f; --busy: #a5c3ff; --busy-soft: #1a2c55;
    --warn: #fcd34d; --warn-soft: #3d2d0c; --bad: #fda29b; --bad-soft: #47201d; --idle: #b6c0d1; --idle-soft: #262d3a;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
a { color: inherit; text-decoration-color: var(--line); text-underline-offset: 3px; }
a:hover { color: var(--accent); text-decoration-color: currentColor; }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.bar { background: var(--card); border-bottom: 1px solid var(--line); }
.bar > div, main { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
.bar > div { display: flex; align-items: center; gap: 2px 12px; padding-top: 13px; padding-bottom: 13px; flex-wrap: wrap; }
.bar a { font-weight: 650; font-size: 17px; text-decoration: none; display: flex; align-items: center; gap: 10px; }
.logo { width: 28px; height: 28px; border-radius: 8px; background: var(--accent); display: grid; place-items: center; }
.logo svg { width: 16px; height: 16px; fill: none; stroke: var(--card); stroke-width: 2.2; stroke-linecap: round; }
.bar .note { color: var(--muted); font-size: 13px; }
.bar .live { margin-left: auto; }
.dot { display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: currentColor; margin-right: 7px; }
.live .dot { background: var(--good); }
main { padding-top: 24px; padding-bottom: 56px; }
h1 { font-size: 24px; line-height: 1.25; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin-top: 20px; overflow: hidden;
  box-shadow: 0 1px 2px rgb(16 24 40 / 5%); }
.card > header { display: flex; justify-content: space-between; gap: 12px; align-items: baseline; padding: 14px 18px;
  border-bottom: 1px solid var(--line); }
.card > header span, .muted { color: var(--muted); font-size: 13px; }
.body { padding: 16px 18px; }
.empty { margin: 0; padding: 28px 18px; text-align: center; color: var(--muted); }
.empty strong { display: block; color: var(--text); margin-bottom: 4px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 13px 18px;
  box-shadow: 0 1px 2px rgb(16 24 40 / 5%); }
.tile b { display: block; font-size: 26px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile b small { font-size: 14px; font-weight: 450; color: var(--muted); }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-size: 12px; font-weight: 550; color: var(--muted); background: var(--soft); }
th, td { padding: 9px 18px; border-bottom: 1px solid var(--line); vertical-align: middle; overflow-wrap: break-word; }
.long { overflow-wrap: anywhere; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover { background: var(--soft); }
td strong { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.pill { display: inline-block; padding: 1px 10px; border-radius: 12px; font-size: 13px; font-weight: 550;
  color: var(--idle); background: var(--idle-soft); }
.pill.good { color: var(--good); background: var(--good-soft); }
.pill.busy { color: var(--busy); background: var(--busy-soft); }
.pill.talk { color: var(--accent); background: var(--accent-soft); }
.pill.warn { color: var(--warn); background: var(--warn-soft); }
.pill.bad { color: var(--bad); background: var(--bad-soft); }
.nowrap { white-space: nowrap; }
code, pre { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { margin: 0; white-space: pre-wrap; background: var(--soft); border-radius: 8px; padding: 10px 12px; }
.title { display: flex; flex-wrap: wrap; align-items: center; gap: 10px 12px; margin-top: 10px; }
.columns { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 0 20px; align-items: start; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 7px 18px; margin: 0; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
.steps { list-style: none; margin: 0; }
.steps li { position: relative; padding: 0 0 16px 26px; display: flex; justify-content: space-between; gap: 12px; }
.steps li:last-child { padding-bottom: 0; }
.steps li::before { content: ""; position: absolute; left: 2px; top: 6px; width: 11px; height: 11px; border-radius: 50%;
  background: var(--accent); box-shadow: 0 0 0 3px var(--accent-soft); z-index: 1; }
.steps li:not(:last-child)::after { content: ""; position: absolute; left: 7px; top: 10px; bottom: -8px;
  border-left: 2px solid var(--line); }
.steps .muted { white-space: nowrap; font-variant-numeric: tabular-nums; }
.chat { display: flex; flex-direction: column; gap: 10px; }
.chat div { max-width: 85%; padding: 8px 13px; border-radius: 14px 14px 14px 4px; background: var(--soft);
  align-self: flex-start; overflow-wrap: anywhere; }
.chat .user { align-self: flex-end; border-radius: 14px 14px 4px 14px; background: var(--accent-soft); }
.chat small { display: block; color: var(--muted); }
.result + .result { margin-top: 14px; }
.result h3 { margin: 0 0 3px; font-size: 13px; font-weight: 550; color: var(--muted); }
.result p { margin: 0; overflow-wrap: anywhere; }
@media (prefers-reduced-motion: no-preference) {
  .pill .dot, .live .dot { animation: pulse 1.6s ease-in-out infinite; }
  @keyframes pulse { 50% { opacity: .3; } }
}
@media (max-width: 760px) {
  .bar .live { display: none; }
  .bar > div, main { padding-left: 14px; padding-right: 14px; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .columns { grid-template-columns: minmax(0, 1fr); }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; white-space: nowrap; }
  tbody tr { display: flex; flex-wrap: wrap; gap: 4px 14px; padding: 12px 16px; border-bottom: 1px solid var(--line); }
  tbody tr:last-child { border-bottom: 0; }
  td { padding: 0; border: 0; }
  td.wide { flex: 1 1 50%; }
  td.full { flex-basis: 100%; }
  td:empty { display: none; }
  td[data-label]::before { content: attr(data-label) " "; color: var(--muted); font-size: 13px; }
}
"""
