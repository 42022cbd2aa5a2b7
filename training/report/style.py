"""How the report looks, on a screen and on paper."""

STYLE = """
:root { color-scheme: light; --ink: #1d2733; --line: #d5dbe3; --blue: #1f4e8c; --red: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; background: #eef1f5; color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 980px; margin: 24px auto; padding: 40px 48px; background: #fff;
  box-shadow: 0 1px 6px rgba(20, 30, 50, .16); }
header { border-bottom: 3px solid var(--blue); margin-bottom: 20px; }
.over { margin: 0; color: var(--blue); font-weight: 600; letter-spacing: .06em;
  text-transform: uppercase; font-size: 12px; }
h1 { margin: 4px 0; font-size: 27px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 34px 0 10px; border-bottom: 1px solid var(--line);
  padding-bottom: 4px; }
h3 { font-size: 15px; margin: 20px 0 8px; }
.notice { margin: 8px 0; padding: 9px 14px; border-left: 4px solid #c77700; background: #fff6e5; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 14px 0 18px; }
.tile { flex: 1 1 150px; border: 1px solid var(--line); border-top: 4px solid var(--blue);
  padding: 10px 14px; }
.tile.bad { border-top-color: var(--red); }
.tile b { display: block; font-size: 23px; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px; border-bottom: 1px solid var(--line);
  font-weight: 400; }
thead th { font-weight: 600; font-size: 13px; border-bottom: 2px solid var(--line); }
td.bad { color: var(--red); font-weight: 600; }
dl { display: grid; grid-template-columns: 230px 1fr; gap: 4px 16px; margin: 10px 0; }
dt { color: #55606e; } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 18px 0; } figcaption { font-size: 13px; color: #55606e; }
svg { width: 100%; max-width: 760px; height: auto; display: block; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 14px; }
.card { margin: 0; border: 1px solid var(--line); } .card img { width: 100%; display: block; }
.card summary { list-style: none; cursor: zoom-in; }
.card summary::-webkit-details-marker { display: none; }
.card[open] { grid-column: 1 / -1; } .card[open] summary { cursor: zoom-out; }
.caption { display: block; padding: 6px 10px; font-size: 13px; color: #55606e;
  overflow-wrap: anywhere; }
.synthetic { background: #c77700; color: #fff; padding: 0 6px; font-size: 11px; }
.note { font-size: 13px; color: #55606e; overflow-wrap: anywhere; }
.box { display: inline-block; width: 15px; height: 15px; border: 1.5px solid var(--ink);
  vertical-align: -2px; }
.fields { display: grid; grid-template-columns: 2fr 2fr 1fr 2fr; gap: 18px; margin-top: 18px; }
.field { border-bottom: 1.5px solid var(--ink); min-height: 58px; }
.field.wide { min-height: 84px; } .field span { font-size: 12px; color: #55606e; }
@page { size: A4; margin: 16mm; }
@media print {
  body { background: #fff; font-size: 11pt; }
  main { margin: 0; padding: 0; max-width: none; box-shadow: none; }
  figure, .card, .tile, tr, .release, .notice { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
@media (max-width: 640px) {
  main { padding: 20px 16px; margin: 0; } dl { grid-template-columns: 1fr; }
  .fields { grid-template-columns: 1fr; }
}
"""
