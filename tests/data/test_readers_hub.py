import base64
import hashlib
import http.server
import io
import json
import os
import pickle
import subprocess
import sys
import threading
import urllib.parse
import zipfile

import datasets
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1_sharevl.data.readers.hub import HubName, parse_hub_name
from r1_sharevl.data.sources import open_sources
from r1_sharevl.errors import UserError

COMMIT = "a" * 40
# Opens each input and tells, as JSON, what is in it or what the error says.
TELL = """
import base64, json, sys
from r1_sharevl.data.sources import open_sources
from r1_sharevl.errors import UserError
def plain(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
told = []
for item in json.loads(sys.argv[1]):
    try:
        sources = open_sources([item["name"]], with_test=item["with_test"])
    except UserError as error:
        told.append(str(error))
    else:
        told.append([
            {"label": s.label, "split": s.split, "base": str(s.base), "revision": s.revision, "where": s.where(1),
             "types": s.types.as_dict(), "columns": s.columns, "rows": s.num_rows, "sha256": s.sha256(),
             "records": [record for _, record in s.records()]}
            for s in sources
        ])
print("TOLD" + json.dumps(told, default=plain))
"""


class StandInHub(http.server.BaseHTTPRequestHandler):
    """The part of the Hub's interface that `load_dataset` uses; one commit, reached as `main` or by its hash."""

    protocol_version = "HTTP/1.1"
    repositories: dict  # owner/name -> path -> bytes

    def log_message(self, *_):
        pass

    def _reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api":
            parts += ["revision", "main"] if len(parts) == 4 else []
            name, verb, revision, path = "/".join(parts[2:4]), parts[4], parts[5], "/".join(parts[6:])
        else:
            name, verb, revision, path = "/".join(parts[1:3]), parts[3], parts[4], "/".join(parts[5:])
        files = self.repositories.get(name)
        if name == "own/gated":
            self._reply(403, X_Error_Code="GatedRepo")
        elif files is None:
            self._reply(401, X_Error_Code="RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._reply(404, X_Error_Code="RevisionNotFound")
        elif verb == "revision":
            self._reply(200, json.dumps({"id": name, "sha": COMMIT, "siblings": []}).encode())
        elif verb == "tree":
            self._reply(200, json.dumps(_tree(files, path)).encode())
        elif path not in files:
            self._reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            self._send_file(files[path])

    def _send_file(self, data):
        etag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X_Repo_Commit": COMMIT}
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            last = min(int(last or len(data)), len(data) - 1)
            self._reply(206, data[int(first) : last + 1], Content_Range=f"bytes {first}-{last}/{len(data)}", **etag)
        else:
            self._reply(200, data, **etag)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        files = self.repositories["/".join(self.path.split("/")[3:5])]
        paths = json.loads(body)["paths"] if body.startswith("{") else urllib.parse.parse_qs(body)["paths"]
        found = [entry for path in paths for entry in _tree(files, "") if entry["path"] == path]
        self._reply(200, json.dumps(found).encode())


def _tree(files, under):
    folders = {path.rpartition("/")[0] for path in files if "/" in path}
    entries = [{"type": "file", "path": path, "size": len(data), "oid": "1" * 40} for path, data in files.items()]
    entries += [{"type": "directory", "path": path, "size": 0, "oid": "2" * 40} for path in folders]
    return [entry for entry in entries if not under or entry["path"].startswith(under + "/")]


def png(red):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (red, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def parquet(*names, path=None):
    features = datasets.Features({"problem": datasets.Value("string"), "images": datasets.List(datasets.Image())})
    rows = [{"problem": name, "images": [{"bytes": None if path else png(1), "path": path}]} for name in names]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), buffer)
    return buffer.getvalue()


def packed(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return buffer.getvalue()


CARD = b"""---
configs:
- config_name: mini
  data_files:
  - split: testmini
    path: data/testmini.parquet
- config_name: full
  data_files:
  - split: test
    path: data/test.parquet
---
"""
REPOSITORIES = {
    "own/geo": {
        "README.md": b"# Geometry\n",
        "data/train-00000-of-00001.parquet": parquet(*(f"t{number}" for number in range(40))),
        "data/validation-00000-of-00001.parquet": parquet("v"),
        "data/test-00000-of-00001.parquet": parquet("x"),
    },
    "own/loose": {"train/metadata.jsonl": b'{"file_name": "a.png", "problem": "q"}\n', "train/a.png": png(2)},
    "own/zip": {"train.zip": packed(a_png=png(3), metadata_jsonl=b'{"file_name": "a.png", "problem": "q"}')},
    "own/tests": {"README.md": CARD, "data/testmini.parquet": parquet("m"), "data/test.parquet": parquet("x")},
    "own/lines-v1.5": {"train.jsonl": b'{"problem": "q", "answer": 1}\n'},
    "own/sly": {"train.parquet": parquet("q", path="zip://passwd::/etc/passwd")},
    "own/broken": {"train.parquet": b"PAR1 no parquet"},
}


@pytest.fixture(scope="module")
def tell(tmp_path_factory):
    """Opens names in another process, whose Hub is the stand-in; returns what is told of each."""
    handler = type("Handler", (StandInHub,), {"repositories": REPOSITORIES})
    home = tmp_path_factory.mktemp("home")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def run(*names, with_test=False, **environment):
            inputs = json.dumps([{"name": name, "with_test": with_test} for name in names])
            environment = {
                **os.environ,
                "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
                "HF_HOME": str(home),
                "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_XET": "1",
                "OMP_NUM_THREADS": "1",
                **environment,
            }
            process = subprocess.run(
                [sys.executable, "-c", TELL, inputs], env=environment, capture_output=True, text=True, cwd=home
            )
            assert "TOLD" in process.stdout, process.stderr
            return json.loads(process.stdout.rpartition("TOLD")[2])

        yield run
        server.shutdown()


@pytest.fixture(scope="module")
def told(tell):
    """All that is asked of the Hub while it can be reached, in one process: starting one takes a second."""
    names = [
        *("own/geo", "hf://datasets/own/geo@main#test", "own/loose", "own/zip", "own/tests:mini#testmini"),
        *("own/tests", "own/tests:mini", "own/tests:none", "own/geo#none", "own/geo@none", "own/none", "own/gated"),
        *("own/lines-v1.5", f"own/geo@{COMMIT}#train", "own/sly", "own/broken"),
    ]
    return dict(zip(names, tell(*names), strict=True))


def test_the_splits_of_a_data_set(told):
    train, validation = told["own/geo"]
    assert [train[key] for key in ("label", "split", "rows", "where")] == [
        "own/geo/train", "train", 40, "own/geo/train, row 1"
    ]  # fmt: skip
    assert [validation[key] for key in ("label", "split", "rows")] == ["own/geo/validation", "validation", 1]
    assert [record["problem"] for record in train["records"]] == [f"t{number}" for number in range(40)]
    # Encoded, as it was sent.
    assert train["records"][0]["images"][0]["bytes"] == base64.b64encode(png(1)).decode()
    assert train["types"] == {"problem": "string", "images": "binary"}
    assert train["columns"] == ["problem", "images"]
    assert train["revision"] == COMMIT
    assert len(train["sha256"]) == 64
    assert train["sha256"] != validation["sha256"]


def test_one_split_and_revision(told):
    (test,) = told["hf://datasets/own/geo@main#test"]
    assert [test[key] for key in ("label", "split", "rows", "revision")] == ["own/geo@main/test", None, 1, COMMIT]
    (train,) = told[f"own/geo@{COMMIT}#train"]
    assert (train["split"], train["rows"]) == (None, 40)


def test_pictures_that_are_files_of_the_repository(told):
    (source,) = told["own/loose"]
    path = source["records"][0]["image"]["path"]
    assert path.startswith(source["base"] + "/snapshots/")
    assert source["base"].endswith("/hub/datasets--own--loose")
    # What the snapshot links to lies in there, too.
    assert os.path.realpath(path).startswith(source["base"] + "/")
    with open(path, "rb") as file:
        assert file.read() == png(2)


def test_pictures_in_an_archive_of_the_repository(told):
    (source,) = told["own/zip"]
    assert source["records"][0]["image"]["bytes"] == base64.b64encode(png(3)).decode()


def test_archives_elsewhere_are_not_opened(told):
    (source,) = told["own/sly"]
    (record,) = source["records"]
    assert record == ("own/sly/train, row 1: picture 'zip://passwd::/etc/passwd' is not in the data set's own files")


def test_text_files_of_the_hub_and_names_with_a_version(told):
    assert told["own/lines-v1.5"][0]["records"] == [{"problem": "q", "answer": 1}]


def test_one_config(told):
    (source,) = told["own/tests:mini#testmini"]
    assert (source["label"], source["records"][0]["problem"]) == ("own/tests:mini/testmini", "m")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own/tests", "Please pick one among the available configs: ['mini', 'full']"),
        ("own/tests:mini", "own/tests:mini: has only test splits: name the one that is meant: own/tests:mini#testmini"),
        ("own/tests:none", "own/tests:none: cannot be loaded from the Hub: BuilderConfig 'none' not found."),
        ("own/geo#none", 'own/geo#none: cannot be loaded from the Hub: Unknown split "none". Should be one of'),
        ("own/geo@none", "Revision 'none' doesn't exist for dataset 'own/geo' on the Hub."),
        ("own/none", "own/none: no such file or folder here, and on the Hub: Dataset 'own/none' doesn't exist"),
        ("own/gated", "is a gated dataset on the Hub. Visit the dataset page at"),
        ("own/broken", "own/broken: cannot be loaded from the Hub: "),
    ],
)
def test_what_the_hub_does_not_have(told, name, says):
    assert says in told[name]
    assert len(told[name].splitlines()) == 1


def test_test_splits_where_they_are_asked_for(tell, told):
    (sources,) = tell("own/geo", with_test=True)
    assert [(source["label"], source["split"]) for source in sources] == [
        ("own/geo/train", "train"),
        ("own/geo/validation", "validation"),
        ("own/geo/test", None),
    ]


def test_offline_what_is_in_the_cache_is_used_but_no_other_revision(tell, told):
    geo, main, other, none = tell("own/geo", "own/geo@main", f"own/geo@{'b' * 40}", "own/none", HF_HUB_OFFLINE="1")
    assert [source["records"] for source in geo] == [source["records"] for source in told["own/geo"]]
    assert [source["sha256"] for source in geo] == [source["sha256"] for source in told["own/geo"]]
    assert main[0]["revision"] == COMMIT
    assert "has no such revision, and the cache holds another one, aaaa" in other
    assert "own/none: no such file or folder here, and the Hub cannot be reached" in none


def test_a_data_set_cannot_be_reached_in_this_process():
    with pytest.raises(UserError, match="nobody/nothing: no such file or folder here, and the Hub cannot be reached"):
        open_sources(["nobody/nothing"])


def test_a_folder_here_comes_before_the_hub(tmp_path, monkeypatch):
    (tmp_path / "own/geo").mkdir(parents=True)
    (tmp_path / "own/geo/train.jsonl").write_text('{"problem": "here"}\n')
    monkeypatch.chdir(tmp_path)
    (source,) = open_sources(["own/geo"])
    assert source.sample() == [{"problem": "here"}]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hiyouga/geometry3k", HubName("hiyouga/geometry3k", None, None, None)),
        ("hf://datasets/hiyouga/geometry3k", HubName("hiyouga/geometry3k", None, None, None)),
        ("hf:/datasets/hiyouga/geometry3k", HubName("hiyouga/geometry3k", None, None, None)),
        ("AI4Math/MathVista:default@main#testmini", HubName("AI4Math/MathVista", "default", "main", "testmini")),
        ("a/b@refs/convert/parquet", HubName("a/b", None, "refs/convert/parquet", None)),
        ("a/b:my config", None),
        ("a/b#x#y", None),
        ("a/b@v1.0#train", HubName("a/b", None, "v1.0", "train")),
        ("a/MathVision-v1.5", HubName("a/MathVision-v1.5", None, None, None)),
        ("hf://datasets/a/data.json", HubName("a/data.json", None, None, None)),
        ("data/train.jsonl", None),
        ("data/train.txt", None),
        ("./data/train", None),
        ("../data", None),
        ("/data/train", None),
        ("data", None),
        ("data/", None),
        ("a/b/c", None),
        ("a/b#", None),
        ("a/b@", None),
        ("https://huggingface.co/datasets/a/b", None),
    ],
)
def test_names_of_the_hub(text, name):
    assert parse_hub_name(text) == name
    if name and text == str(name):
        assert pickle.loads(pickle.dumps(name)) == name  # noqa: S301
