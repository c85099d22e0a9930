"""The page and the sheet of a prepared set, also of one that tries to break out of them."""

import base64
import html.parser
import io
import json
import re

import datasets
import numpy as np
import PIL.Image
import pytest
from small_sets import png, row, write_set

from r1_sharevl.data.easyr1 import easyr1_features, to_easyr1
from r1_sharevl.errors import UserError
from r1_sharevl.prep.contact_sheet import SheetCell, draw_sheet
from r1_sharevl.prep.preview import write_preview
from r1_sharevl.question_space import TRANSFORMS

HOSTILE = "<script>alert(1)</script></p></article><img src=x onerror=alert(2)>\"'&lt; \x1b[31m \u202e </style>"
VOID = {"img", "meta"}
MANIFEST = {
    "versions": {"r1_sharevl": "9.8.7"},
    "seed": 5,
    "kept_by_source": {"sums": 30, "figures": 2},
    "rejected": {"image cannot be read": 3},
    "dropped_wordings": {"numbers differ": 11},
}


class Page(html.parser.HTMLParser):
    """The page's elements, and its text by the class of the element it stands in."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.images = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else None, data))

    @property
    def text(self):
        return "".join(text for where, text in self.texts if where is None or where[0] != "style")


def preview(folder, **options):
    page, sheet = write_preview(folder, folder / "preview", **options)
    return Page(page.read_text(encoding="utf-8")), PIL.Image.open(sheet)


def decoded(uri):
    kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)", uri).groups()
    image = PIL.Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    assert image.format.lower() == kind
    return image


def test_page_shows_rows_transforms_and_what_was_rejected(tmp_path):
    rows = [*(row(number) for number in range(30)), row(30, source="figures", variants=["<image>Really?"], answer="π")]
    write_set(tmp_path, rows, [row(31, source="figures", images=[], problem="No picture?")], manifest=MANIFEST)
    lines = [
        {"id": f"x{number}", "reason": "image cannot be read", "detail": f"f, row {number}: bad"} for number in range(9)
    ]
    (tmp_path / "rejected.jsonl").write_text("\n".join(["junk", "[1]", *map(json.dumps, lines)]))
    dropped = {"id": "row-3", "where": "f, row 3", "text": "What is 4 + 1?", "reason": "numbers differ"}
    (tmp_path / "rejected_wordings.jsonl").write_text(json.dumps(dropped) + "\n")
    page, sheet = preview(tmp_path, rows=6, title="My set")
    for said in ("My set", "r1sharevl prep 9.8.7, seed 5", "Really?", "No picture?", "row-30", "row-31", "figures"):
        assert said in page.text
    assert sum(element == ("article", {"class": "card"}) for element in page.elements) == 6
    assert "What is 4 + 1?" in page.text
    assert [number for number in range(9) if f"f, row {number}: bad" in page.text] == [0, 1, 2, 3]
    # Counts come from the manifest, the list holds more.
    assert ("image cannot be read", "3") in zip(*(cells(page)[start:] for start in (0, 1)), strict=False)
    for transform in TRANSFORMS.values():
        assert page.text.count(transform.hint) == 3
    images = [decoded(uri) for uri in page.images]
    assert len(images) == 5 + 3 * 10
    assert {image.size for image in images} == {(40, 30), (30, 40)}
    assert sheet.mode == "RGB"
    assert np.asarray(sheet).std() > 10


def cells(page):
    return [text for where, text in page.texts if where and where[0] in ("td", "th")]


def test_transformed_pictures_are_what_the_hint_says(tmp_path):
    # So plain that the page holds it without loss.
    truth = PIL.Image.new("RGB", (40, 30), "white")
    truth.paste("red", (3, 2, 20, 10))
    buffer = io.BytesIO()
    truth.save(buffer, format="PNG")
    write_set(tmp_path, [row(1, images=[{"bytes": buffer.getvalue(), "path": None}])])
    page, _ = preview(tmp_path, transforms=["rotate_90_clockwise", "flip_horizontal"])
    expected = [
        truth,
        truth,
        truth.transpose(PIL.Image.Transpose.ROTATE_270),
        truth.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT),
    ]
    assert [decoded(uri).convert("RGB").tobytes() for uri in page.images] == [image.tobytes() for image in expected]
    assert TRANSFORMS["flip_horizontal"].hint in page.text
    assert TRANSFORMS["rotate_180"].hint not in page.text


def test_noise_is_shown_as_strong_as_it_is(tmp_path):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (2000, 1000), "grey").save(buffer, format="PNG")
    write_set(tmp_path, [row(1, images=[{"bytes": buffer.getvalue(), "path": None}])])
    page, _ = preview(tmp_path, transforms=["gaussian_noise_25"])
    # JPEG takes some of it away.
    assert 15 < np.asarray(decoded(page.images[-1]), float).std() < 27


def test_hostile_data_stays_text(tmp_path):
    hostile = row(1, id=HOSTILE, problem=HOSTILE, answer=HOSTILE, variants=[HOSTILE], source=HOSTILE)
    manifest = {**MANIFEST, "rejected": {HOSTILE: 1}, "kept_by_source": {HOSTILE: 1}, "seed": HOSTILE}
    write_set(tmp_path, [hostile], manifest=manifest)
    for name in ("rejected", "rejected_wordings"):
        entry = {"id": HOSTILE, "reason": HOSTILE, "detail": HOSTILE, "text": [HOSTILE]}
        huge = {**entry, "reason": "huge", "more": "x" * 3_000_000}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(entry) + "\n" + json.dumps(huge) + "\n")
    page, _ = preview(tmp_path, title=HOSTILE)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "iframe", "link", "object", "base", "form", "a"})
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("href", "srcdoc", "action") for name in attributes)
    assert all(uri.startswith("data:image/") for uri in page.images)
    assert page.text.count("<script>alert(1)</script></p>") >= 10
    # Lines are read up to a bound.
    assert "huge" not in page.text
    raw = (tmp_path / "preview/index.html").read_text(encoding="utf-8")
    assert not set(raw) & set("\x1b\u202e")
    assert "default-src 'none'" in raw


def test_long_texts_and_many_things_are_cut(tmp_path):
    long = row(1, problem="<image>" * 9 + "word " * 10**6, variants=["w" * 10**6] * 30, answer="9" * 900)
    long["images"] = [{"bytes": png(number), "path": None} for number in range(9)]
    manifest = {"rejected": {f"reason {number}": 1 for number in range(5000)}}
    write_set(tmp_path, [long], manifest=manifest)
    page, _ = preview(tmp_path)
    assert "5 more" in page.text
    assert sum(tag == "li" for tag, _ in page.elements) == 16
    assert "4,975 others" in page.text
    assert (tmp_path / "preview/index.html").stat().st_size < 300_000


def test_same_seed_same_files(tmp_path):
    write_set(tmp_path, [row(number) for number in range(40)])
    shown = [
        {text for text in preview(tmp_path, rows=5, seed=seed)[0].text.split() if "row-" in text} for seed in (1, 2)
    ]
    assert shown[0] != shown[1]
    first = [path.read_bytes() for path in write_preview(tmp_path, tmp_path / "a", seed=1)]
    assert [path.read_bytes() for path in write_preview(tmp_path, tmp_path / "b", seed=1)] == first
    assert [path.read_bytes() for path in write_preview(tmp_path, tmp_path / "c", seed=2)] != first


def test_pictures_that_cannot_be_read_and_sets_without_any(tmp_path):
    broken = [{"bytes": png(1)[:50], "path": None}, {"bytes": png(2), "path": None}]
    write_set(tmp_path / "broken", [row(1, images=broken)])
    page, _ = preview(tmp_path / "broken")
    assert "image cannot be read" in page.text
    assert len(page.images) == 1
    write_set(tmp_path / "none", [row(1, images=[])])
    page, _ = preview(tmp_path / "none")
    assert page.images == []
    assert "A set without a manifest." in page.text
    with pytest.raises(UserError, match="not a prepared set"):
        write_preview(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_set_still_opens(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    write_set(tmp_path, [row(1)], [row(2)])
    configs = "configs:\n- config_name: default\n  data_files:\n"
    files = "".join(f"  - {{split: {split}, path: data/{split}-*.parquet}}\n" for split in ("train", "validation"))
    for card in (None, f"---\n{configs}{files}---\n"):
        if card:
            (tmp_path / "README.md").write_text(card)
        preview(tmp_path)
        opened = datasets.load_dataset(str(tmp_path))
        assert {name: split.num_rows for name, split in opened.items()} == {"train": 1, "validation": 1}
        assert opened["train"].column_names[:2] == ["id", "problem"]


def test_the_release_format_has_a_preview_too(tmp_path):
    rows = [to_easyr1(row(1, variants=["Another wording?"]))]
    write_set(tmp_path, rows, rows, features=lambda split: easyr1_features(None, split))
    page, _ = preview(tmp_path)
    assert page.text.count("Another wording?") == 1


# The sheet alone.


def test_sheet_is_bounded_whatever_the_cells_hold():
    picture = PIL.Image.new("RGB", (3000, 10), "red")
    cells = [SheetCell(picture, "h" * 10**6, "w" * 10**6, "f" * 10**6), SheetCell(None, "", "a " * 10**6, "求\n求")]
    sheet = draw_sheet("t" * 10**6, cells * 4, [SheetCell(picture, "x", "", "")])
    assert sheet.size == draw_sheet("", cells * 4, cells[:1]).size
    assert (np.asarray(sheet) == (255, 0, 0)).all(-1).any()
    assert draw_sheet("", [], []).width == sheet.width


def test_text_stays_inside_its_cell():
    def ink(text):
        sheet = draw_sheet("", [SheetCell(None, "", text, "")], [])
        return np.asarray(sheet.convert("L"))[:, 14 + 280 + 1 : 14 + 280 + 14] < 128

    assert not ink("wide " * 100).any()
    assert not ink("W" * 300).any()


def test_long_words_are_broken():
    def lines(text):
        sheet = draw_sheet("", [SheetCell(None, "", text, "")], [])
        ink = (np.asarray(sheet.convert("L"))[280:, 30:280] < 128).any(axis=1)
        return int((ink[1:] & ~ink[:-1]).sum())

    assert (lines("W"), lines("W" * 30), lines("W" * 10**5)) == (1, 2, 5)
