"""How the page of a report looks: on a screen, light or dark, wide or narrow, and on paper."""

STYLE = """\
:root {
  --ground: #fff; --card: #f6f7f9; --ink: #1b1f24; --quiet: #57606a; --line: #d8dee4; --link: #0a58ca;
  --done: #1f883d; --running: #2f81f7; --left: #c4ccd4; --needs: #d1600f; --skipped: #8c96a0;
  --warn: #fff4e0; --warn-ink: #7a3e00;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --card: #1d2125; --ink: #e6e9ec; --quiet: #9aa4ae; --line: #363c43; --link: #79b8ff;
    --done: #3fb950; --running: #58a6ff; --left: #4a525b; --needs: #f0883e; --skipped: #6e7781;
    --warn: #3a2a12; --warn-ink: #ffcf8f;
  }
}
* { box-sizing: border-box }
body {
  margin: 0 auto; max-width: 1100px; padding: 24px 20px 48px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere;
}
h1 { margin: 0 0 8px; font-size: 26px; line-height: 1.2 }
h2 { margin: 0 0 10px; font-size: 18px }
h3 { margin: 24px 0 8px; font-size: 15px }
p { margin: 0 0 8px }
a { color: var(--link); text-decoration: none }
a:hover { text-decoration: underline }
ul, ol { list-style: none; margin: 0; padding: 0 }
small, .quiet { color: var(--quiet); font-size: 13px }
section { margin-top: 32px }
.sandbox {
  display: inline-block; padding: 2px 10px; border-radius: 4px; font-weight: 600;
  background: var(--warn); color: var(--warn-ink);
}
.parts { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 20px }
.parts li {
  flex: 1 1 120px; padding: 10px 14px; border-radius: 6px; border-left: 5px solid; background: var(--card);
}
.parts b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums }
.parts .done { border-color: var(--done) }
.parts .running { border-color: var(--running) }
.parts .left { border-color: var(--left) }
.parts .needs { border-color: var(--needs) }
.parts .skipped { border-color: var(--skipped) }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 40px }
table { width: 100%; border-collapse: collapse }
th, td { padding: 4px 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 400; text-align: left }
td { padding-left: 16px; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.total th, .total td { font-weight: 600 }
.two p { margin-top: 8px }
.bars th[scope=col] {
  width: 100px; padding-left: 12px; color: var(--quiet); font-size: 13px; text-align: right;
  overflow-wrap: normal;
}
.bars th[scope=row] { padding: 8px 0 10px }
.bars td { padding-top: 8px }
.bar { display: flex; gap: 1px; height: 10px; margin-top: 4px; border-radius: 3px; overflow: hidden }
.bar i { min-width: 2px }
.bar .done { background: var(--done) }
.bar .running { background: var(--running) }
.bar .left { background: var(--left) }
.bar .needs { background: var(--needs) }
.bar .skipped { background: var(--skipped) }
.bars th[scope=col]::before {
  content: ""; display: inline-block; width: 9px; height: 9px; margin-right: 6px; border-radius: 2px;
}
.bars th.done::before { background: var(--done) }
.bars th.running::before { background: var(--running) }
.bars th.left::before { background: var(--left) }
.bars th.needs::before { background: var(--needs) }
.bars th.skipped::before { background: var(--skipped) }
.needing li {
  margin-bottom: 8px; padding: 8px 14px; border-left: 5px solid var(--needs); border-radius: 6px;
  background: var(--card); break-inside: avoid;
}
.needing small { display: block }
.needing p { margin: 4px 0 0 }
.videos {
  display: grid; gap: 20px 16px; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));
}
.videos li { break-inside: avoid }
.videos img, .videos .none { display: block; width: 100%; margin-bottom: 6px; border-radius: 4px }
.videos img { max-height: 200px; object-fit: contain; background: #181818 }
.videos .none {
  padding: 36px 12px; background: var(--card); color: var(--quiet); font-size: 13px; text-align: center;
}
.videos div, .rest div { display: flex; gap: 12px; justify-content: space-between; align-items: baseline }
.videos li > a:last-of-type { display: block }
.price { white-space: nowrap; font-variant-numeric: tabular-nums }
.rest li {
  display: flex; flex-wrap: wrap; gap: 0 12px; justify-content: space-between; align-items: baseline;
  padding: 4px 0; border-bottom: 1px solid var(--line); break-inside: avoid;
}
@media (max-width: 640px) {
  body { padding: 16px 14px 32px }
  .two { grid-template-columns: 1fr }
  .bars th[scope=col] { width: 54px; padding-left: 8px; font-size: 12px }
  .bars th[scope=col]::before { display: block; margin: 0 0 2px auto }
  td { padding-left: 8px }
}
@media print {
  @page { margin: 14mm }
  body { max-width: none; padding: 0; font-size: 11px }
  h1 { font-size: 20px }
  h2 { font-size: 14px; break-after: avoid }
  small, .quiet, .videos .none, .bars th[scope=col] { font-size: 10px }
  section { margin-top: 18px }
  .screen { display: none }
  .two { grid-template-columns: 1fr 1fr }
  .parts b { font-size: 18px }
  .bars th[scope=col] { width: 76px }
  .videos { grid-template-columns: repeat(3, 1fr); gap: 12px }
  a { color: inherit }
  tr { break-inside: avoid }
  .bar i, .parts li, .needing li, .sandbox, .bars th::before, .videos img, .videos .none {
    print-color-adjust: exact; -webkit-print-color-adjust: exact;
  }
}
"""
