"""The page of a preview."""

import base64
import html
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image

from ..prompts import IMAGE_MARK
from .answer_types import answer_type
from .inspection import counts_by_reason, visible
from .prepared_files import PreparedFiles, PreparedRow

_TEXT_CHARACTERS = 1000
_WORDINGS = 16
_EXAMPLES_PER_REASON = 4
_REASONS = 25
_LINE_BYTES = 1024 * 1024
_MARK = re.compile(re.escape(html.escape(IMAGE_MARK)) + r"\s?")


@dataclass(frozen=True)
class ShownRow:
    """A row and its first few pictures, scaled down; None for one that cannot be read."""

    row: PreparedRow
    images: tuple[PIL.Image.Image | None, ...]


@dataclass(frozen=True)
class TransformedRow:
    """A row's first picture, scaled down, and name, hint and picture of each of its transforms."""

    row: PreparedRow
    original: PIL.Image.Image
    versions: tuple[tuple[str, str, PIL.Image.Image], ...]


@dataclass
class _Listed:
    """What a `.jsonl` list of rejected things holds: counts, and the first few of each reason."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def page_html(title: str, files: PreparedFiles, shown: Sequence[ShownRow], changed: Sequence[TransformedRow]) -> str:
    """Make the page.

    Args:
        title: The set's name.
        files: The set, for its counts and its lists of what was rejected.
        shown: The rows to show.
        changed: Rows to show under image transforms.

    Returns:
        HTML that needs no other file and runs no script. All texts from the data are escaped and cut.

    Raises:
        UserError: The manifest is damaged.
    """
    return "".join(_page(title, files, shown, changed))


def _page(
    title: str, files: PreparedFiles, shown: Sequence[ShownRow], changed: Sequence[TransformedRow]
) -> Iterator[str]:
    manifest = files.manifest()
    rejected = _listed(files.folder / "rejected.jsonl")
    dropped = _listed(files.folder / "rejected_wordings.jsonl")
    rejected_counts = counts_by_reason(manifest.get("rejected")) or dict(rejected.counts.most_common())
    dropped_counts = counts_by_reason(manifest.get("dropped_wordings")) or dict(dropped.counts.most_common())
    yield _HEAD.format(title=_text(title), style=_STYLE)
    yield f"<header><h1>{_text(title)}</h1><p>{_text(_made_by(manifest))}</p></header>"
    tiles = [*((f"{split} rows", count) for split, count in files.num_rows.items())]
    tiles += [("rejected rows", sum(rejected_counts.values())), ("dropped wordings", sum(dropped_counts.values()))]
    yield '<section class="tiles">'
    for name, count in tiles:
        yield f"<div><b>{count:,}</b><span>{_text(name)}</span></div>"
    yield "</section>"
    yield '<section class="bars">'
    yield from _bars("Kept rows by source", counts_by_reason(manifest.get("kept_by_source")))
    yield from _bars("Rejected rows by reason", rejected_counts)
    yield from _bars("Dropped wordings by reason", dropped_counts)
    yield "</section>"
    yield f'<h2>Rows</h2><p class="note">{len(shown)} rows, sources taking turns.</p><section class="cards">'
    for item in shown:
        yield from _card(item)
    yield "</section>"
    if changed:
        yield '<h2>Image transforms</h2><p class="note">What a prompt may look like in training. The sentence stands '
        yield "before the question.</p>"
    for changed_row in changed:
        yield from _transform_strip(changed_row)
    if dropped.examples:
        yield '<h2>Dropped wordings</h2><p class="note">The first few of each reason.</p>'
        yield from _table(dropped, ("id", "text"))
    if rejected.examples:
        yield '<h2>Rejected rows</h2><p class="note">The first few of each reason; all are in rejected.jsonl.</p>'
        yield from _table(rejected, ("id", "detail"))
    yield "</main></body></html>\n"


def _made_by(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions")
    version = versions.get("r1_sharevl") if isinstance(versions, Mapping) else None
    if version is None:
        return "A set without a manifest."
    return f"Made by r1sharevl prep {version}, seed {manifest.get('seed')}."


def _card(item: ShownRow) -> Iterator[str]:
    row = item.row
    yield '<article class="card">'
    if item.images:
        yield '<div class="images">'
        for image in item.images:
            yield _img(image) if image is not None else '<div class="broken">image cannot be read</div>'
        if len(row.images) > len(item.images):
            yield f'<div class="more">{len(row.images) - len(item.images):,} more</div>'
        yield "</div>"
    yield f'<p class="id">{_text(row.id)}<span>{_text(row.source)}</span><span>{_text(row.split)}</span></p>'
    yield f'<p class="problem">{_marked(row.problem)}</p>'
    if row.variants:
        yield '<ol start="2">'
        for wording in row.variants[:_WORDINGS]:
            yield f"<li>{_marked(wording)}</li>"
        yield "</ol>"
    kind = answer_type(row.answer, row.problem)
    yield f'<p class="answer"><b>{_text(row.answer)}</b><span>{_text(kind)}</span></p></article>'


def _transform_strip(changed: TransformedRow) -> Iterator[str]:
    yield f'<p class="id">{_text(changed.row.id)}</p><section class="strip">'
    yield f"<figure>{_img(changed.original)}<figcaption><b>as it is</b></figcaption></figure>"
    for name, hint, image in changed.versions:
        yield f"<figure>{_img(image)}<figcaption><b>{_text(name)}</b> {_text(hint)}</figcaption></figure>"
    yield "</section>"


def _bars(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    if not counts:
        return
    most = max(max(counts.values()), 1)
    yield f"<div><h3>{_text(title)}</h3><table>"
    for name, count in itertools.islice(counts.items(), _REASONS):
        width = 100 * count / most
        yield f"<tr><td>{_text(name)}</td><td>{count:,}</td>"
        yield f'<td><i style="width:{width:.1f}%"></i></td></tr>'
    if len(counts) > _REASONS:
        yield f"<tr><td>{len(counts) - _REASONS:,} others</td><td></td><td></td></tr>"
    yield "</table></div>"


def _table(listed: _Listed, columns: Sequence[str]) -> Iterator[str]:
    yield '<table class="list">'
    for reason, _ in listed.counts.most_common(_REASONS):
        examples = listed.examples[reason]
        for number, example in enumerate(examples):
            head = f'<th rowspan="{len(examples)}">{_text(reason)}</th>' if number == 0 else ""
            cells = "".join(f"<td>{_text(str(example.get(column) or ''))}</td>" for column in columns)
            yield f"<tr>{head}{cells}</tr>"
    yield "</table>"


def _listed(path: Path) -> _Listed:
    listed = _Listed()
    if not path.is_file():
        return listed
    for line in _lines(path):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict):
            continue
        reason = str(entry.get("reason"))
        listed.counts[reason] += 1
        examples = listed.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES_PER_REASON:
            examples.append(entry)
    return listed


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES):
            yield line


def _text(text: str) -> str:
    return html.escape(visible(text, _TEXT_CHARACTERS))


def _marked(text: str) -> str:
    """Escape a question and set its image marks apart."""
    return _MARK.sub("<mark>image</mark>", _text(text))


def _img(image: PIL.Image.Image) -> str:
    kind, data = min(
        (("png", _encoded(image, "PNG")), ("jpeg", _encoded(image, "JPEG"))), key=lambda pair: len(pair[1])
    )
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img src="{source}" width="{image.width}" height="{image.height}" alt="">'


def _encoded(image: PIL.Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, optimize=True, **({"quality": 85} if kind == "JPEG" else {}))
    return buffer.getvalue()


# No script can run and nothing can be fetched, whatever the data says.
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>{title}</title><style>{style}</style></head><body><main>"""

_STYLE = """
:root { --page: #f6f7f9; --card: #fff; --text: #1c2330; --soft: #667085; --line: #e3e6ec; --accent: #2f6fde;
  --tint: #eaf1fd; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --text: #e6e9ef; --soft: #98a2b3;
  --line: #2c3340; --accent: #7aa7ff; --tint: #223150; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
header p, .note { color: var(--soft); margin: 4px 0 20px; }
h2 { font-size: 20px; margin: 44px 0 0; }
h3 { font-size: 14px; margin: 0 0 8px; color: var(--soft); font-weight: 600; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 12px; }
.tiles div, .bars > div, .card, .strip figure, .list { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.tiles div { padding: 12px 20px; min-width: 130px; }
.tiles b { display: block; font-size: 24px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: 13px; }
.bars { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 12px; align-items: start; }
.bars > div { padding: 16px 20px; }
.bars table { width: 100%; border-collapse: collapse; font-size: 13px; }
.bars td { padding: 3px 0; overflow-wrap: anywhere; vertical-align: middle; }
.bars td:nth-child(2) { text-align: right; padding: 3px 12px; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bars td:nth-child(3) { width: 35%; }
.bars i { display: block; height: 8px; border-radius: 4px; background: var(--accent); min-width: 2px; }
.cards { columns: 3 340px; column-gap: 16px; }
.card { break-inside: avoid; margin: 0 0 16px; overflow: hidden; }
.card > p, .card > ol { margin: 0; padding: 0 18px; }
.images { display: flex; flex-wrap: wrap; gap: 2px; justify-content: center; background: #fff;
  border-bottom: 1px solid var(--line); padding: 10px; }
img { display: block; max-width: 100%; height: auto; object-fit: contain; }
.images img { max-height: 300px; width: auto; }
.more { color: var(--soft); font-size: 13px; padding: 24px; }
.broken { color: #b42318; font-size: 13px; padding: 24px; }
.id { font: 12px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; color: var(--soft); overflow-wrap: anywhere; }
.card .id { padding-top: 12px; }
.id span { margin-left: 8px; padding: 1px 8px; border: 1px solid var(--line); border-radius: 99px; }
.problem { white-space: pre-wrap; }
.problem, .card li { overflow-wrap: anywhere; }
.card .problem { padding-top: 8px; font-weight: 600; }
.card ol { padding: 8px 18px 0 38px; color: var(--soft); font-size: 14px; }
.card li { margin-bottom: 6px; }
mark { background: var(--tint); color: var(--accent); border-radius: 4px; padding: 0 5px; font-size: 11px;
  font-weight: 600; margin-right: 4px; }
.card .answer { margin-top: 12px; padding: 10px 18px; background: var(--tint); overflow-wrap: anywhere; }
.answer span { color: var(--soft); font-size: 13px; margin-left: 10px; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(224px, 1fr)); gap: 12px; margin-bottom: 28px; }
.strip figure { margin: 0; padding: 12px; }
.strip img { margin: 0 auto; }
figcaption { font-size: 12px; color: var(--soft); margin-top: 10px; overflow-wrap: anywhere; }
figcaption b { display: block; color: var(--text); }
.list { width: 100%; border-collapse: separate; border-spacing: 0; font-size: 13px; overflow: hidden; }
.list th, .list td { text-align: left; vertical-align: top; padding: 8px 14px; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; white-space: pre-wrap; }
.list th { width: 22%; }
.list td:nth-last-child(2) { width: 20%; font-family: ui-monospace, Menlo, Consolas, monospace; color: var(--soft); }
.list tr:last-child td, .list th[rowspan] { border-bottom: 1px solid var(--line); }
"""
