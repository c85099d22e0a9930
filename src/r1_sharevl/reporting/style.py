"""Head and style of the page."""

# No script can run and nothing can be fetched, whatever the run's files say.
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{title}</title><style>{style}</style></head><body><main>"""

STYLE = """
:root { --page: #f6f7f9; --card: #fff; --text: #1c2330; --soft: #667085; --line: #e3e6ec; --tint: #eaf1fd;
  --good: #087f5b; --bad: #b42318; --warn: #9a6700;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #56b4e9; --c5: #e69f00; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --text: #e6e9ef; --soft: #98a2b3;
  --line: #2c3340; --tint: #223150; --good: #4fd1a1; --bad: #ff8a7a; --warn: #f0b429;
  --c0: #4ba3e3; --c1: #f0803c; --c2: #35c79a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
.note { color: var(--soft); margin: 4px 0 20px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 44px 0 12px; }
h2 + .note { margin-top: -8px; }
h3 { font-size: 15px; margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 12px; }
.tiles div, .figures figure, .card, .remarks, details { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.tiles div { padding: 12px 18px; }
.tiles b { display: block; font-size: 20px; white-space: nowrap; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
.tiles span { display: block; color: var(--soft); font-size: 13px; }
.remarks { margin: 0; padding: 12px 20px 12px 36px; border-left: 4px solid var(--warn); overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 16px; }
.figures figure { margin: 0; padding: 16px 18px 12px; display: flex; flex-direction: column; }
.figures .note { font-size: 13px; margin: 2px 0 8px; flex: 1; }
.figures svg { display: block; width: 100%; height: auto; }
.figures svg text { font-family: inherit !important; }
.filter > label { display: inline-block; padding: 4px 14px; margin: 0 6px 16px 0; border: 1px solid var(--line);
  border-radius: 99px; cursor: pointer; font-size: 13px; background: var(--card); }
.filter > input { position: absolute; opacity: 0; }
.filter > input:checked + label { background: var(--tint); border-color: var(--c0); font-weight: 600; }
.filter > input:focus-visible + label { outline: 2px solid var(--c0); }
#show-right:checked ~ .batch .card:not(.right), #show-wrong:checked ~ .batch .card:not(.wrong),
#show-cut:checked ~ .batch .card:not(.cut) { display: none; }
.batch { margin-bottom: 24px; }
.batch h3 { margin-bottom: 8px; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); gap: 16px;
  align-items: start; }
.card { overflow: hidden; border-top: 4px solid var(--soft); }
.card.right { border-top-color: var(--good); }
.card.wrong { border-top-color: var(--bad); }
.images { display: flex; flex-wrap: wrap; gap: 2px; justify-content: center; background: #fff; padding: 10px;
  border-bottom: 1px solid var(--line); }
.images img { display: block; max-width: 100%; max-height: 220px; width: auto; height: auto; object-fit: contain; }
.broken { color: #b42318; font-size: 13px; padding: 24px; }
.card > p { margin: 0; padding: 10px 16px 0; }
.id { font-size: 12px; color: var(--soft); overflow-wrap: anywhere; }
.id span { margin-left: 8px; }
.badge { padding: 1px 9px; border-radius: 99px; border: 1px solid currentColor; }
.right .badge { color: var(--good); }
.wrong .badge { color: var(--bad); }
.card .badge.cut { color: var(--warn); margin-left: 6px; }
.problem { font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
mark { background: var(--tint); color: var(--c0); border-radius: 4px; padding: 0 5px; font-size: 11px; }
pre { margin: 10px 16px; padding: 10px 12px; background: var(--page); border-radius: 8px; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 320px; overflow-y: auto; unicode-bidi: isolate;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 4px 16px; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 400; width: 45%; }
.rewards th { width: 58%; }
.rewards td { font-variant-numeric: tabular-nums; font-weight: 600; }
details { margin-bottom: 24px; overflow: hidden; }
summary { padding: 12px 16px; cursor: pointer; }
"""
