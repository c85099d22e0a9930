"""The DataLoader of a trainer reads a row once per generation batch, however often the sampler names it."""

import datasets
import pytest
from datasets import Dataset, Features, List, Value
from PIL import Image
from torch.utils.data import DataLoader
from trl.trainer.utils import RepeatSampler

from r1_sharevl.rollouts.distinct_rows import DistinctRows


@pytest.fixture(scope="module")
def dataset():
    rows = [
        {"id": str(index), "images": [Image.new("RGB", (4, 4), (index, 0, 0))], "tags": [{"at": [index]}]}
        for index in range(6)
    ]
    kinds = {"id": Value("string"), "images": List(datasets.Image()), "tags": List({"at": List(Value("int64"))})}
    return Dataset.from_list(rows, features=Features(kinds))


def loader_of(rows, workers=0):
    sampler = RepeatSampler(rows, mini_repeat_count=3, batch_size=2, repeat_count=4, seed=1)
    return DataLoader(rows, batch_size=6, sampler=sampler, collate_fn=lambda rows: rows, num_workers=workers)


def plain(rows):
    return [{**row, "images": [image.getpixel((0, 0)) for image in row["images"]]} for row in rows]


def repr_of(value):
    """A text of what rows hold, pixels and files of images included."""
    if isinstance(value, Image.Image):
        return f"{value.mode} {value.size} {value.tobytes()!r} {getattr(value, 'filename', None)}"
    if isinstance(value, dict):
        return {name: repr_of(entry) for name, entry in value.items()}
    return [repr_of(entry) for entry in value] if isinstance(value, list) else repr(value)


def test_the_rows_are_those_of_the_dataset_and_each_is_decoded_once_per_batch(dataset, decoded):
    expected = [plain(batch) for batch in loader_of(dataset)]
    assert decoded.pop("images") >= 6 * 3 * 4
    found = [plain(batch) for batch in loader_of(DistinctRows(dataset))]
    assert found == expected
    assert decoded["images"] == 6
    assert plain([DistinctRows(dataset)[4]]) == plain([dataset[4]])


def test_lists_of_images_are_read_as_datasets_reads_them(tmp_path):
    dot = Image.new("RGB", (4, 4), (1, 2, 3))
    dot.save(tmp_path / "dot.png")
    file = {"path": str(tmp_path / "dot.png"), "bytes": None}
    rows = [
        {"id": "0", "images": [dot, None, file], "image": dot, "raw": [dot], "nested": [[dot]]},
        {"id": "1", "images": [], "image": None, "raw": None, "nested": [[]]},
        {"id": "2", "images": None, "image": dot, "raw": [], "nested": None},
    ]
    kinds = {
        "id": Value("string"),
        "images": List(datasets.Image()),
        "image": datasets.Image(),
        "raw": List(datasets.Image(decode=False)),
        "nested": List(List(datasets.Image())),
    }
    data = Dataset.from_list(rows, features=Features(kinds))
    views = [data, data.select([2, 0, 1]), data.with_format("numpy", columns=["id"])]
    for view in [*views, data.with_format(None, columns=["images"])]:
        found = DistinctRows(view).__getitems__([1, 2, 0, 1])
        assert repr_of(found) == repr_of(view.__getitems__([1, 2, 0, 1]))


def test_equal_rows_share_their_images_and_nothing_that_can_be_changed(dataset):
    for batch in loader_of(DistinctRows(dataset)):
        assert [len({id(row["images"][0]) for row in group}) for group in (batch[:3], batch[3:])] == [1, 1]
        batch[0]["id"] = "changed"
        batch[0]["images"].append(None)
        batch[0]["tags"][0]["at"].append(7)
        assert batch[1]["id"] != "changed"
        assert len(batch[1]["images"]) == 1
        assert len(batch[1]["tags"][0]["at"]) == 1


def test_what_a_reader_changed_is_gone_when_the_batch_is_read_again(dataset):
    rows = DistinctRows(dataset)
    (row,) = rows.__getitems__([2])
    row["tags"].clear()
    assert rows.__getitems__([2])[0]["tags"] == [{"at": [2]}]


def test_equal_rows_share_their_images_when_worker_processes_read_them(dataset):
    batches = list(loader_of(DistinctRows(dataset), workers=2))
    assert [plain(batch) for batch in batches] == [plain(batch) for batch in loader_of(dataset)]
    assert all(len({id(row["images"][0]) for row in batch}) == 2 for batch in batches)


def test_a_transform_of_the_dataset_is_applied_once_to_the_rows_of_a_batch(dataset):
    calls = []

    def shout(batch):
        calls.append(len(batch["id"]))
        return {"id": [f"{name}!" for name in batch["id"]]}

    batches = list(loader_of(DistinctRows(dataset.with_transform(shout))))
    assert all(row["id"].endswith("!") for batch in batches for row in batch)
    assert calls == [2, 2, 2]
