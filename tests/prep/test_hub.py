"""Pushing a set, against a server on loopback that speaks as much of the Hub's protocol as a push needs."""

import os
import re
import shlex
import subprocess
import sys
import threading

import pytest
from small_sets import row, write_set

from stand_in_hub import TOKEN, StandInHub

PUSH = """
import sys
from pathlib import Path
from r1_sharevl.errors import UserError
from r1_sharevl.prep.hub import PushError, check_can_push, push_folder
what, folder, repo_id, private = sys.argv[1:]
try:
    if what == "push":
        print(push_folder(Path(folder), repo_id, private == "private"))
    else:
        print(check_can_push(repo_id, private == "private"))
except (UserError, PushError) as error:
    print(f"{type(error).__name__}: {error}")
"""
README = "---\nconfigs:\n- config_name: default\n---\n# A set\n"


@pytest.fixture
def hub():
    with StandInHub("dataset") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    folder = write_set(
        tmp_path / "my set", [row(number) for number in range(150)], [row(200)], manifest={}, shard_bytes=1
    )
    (folder / "README.md").write_text(README)
    (folder / "rejected.jsonl").write_text('{"id": "x"}\n')
    (folder / "preview").mkdir()
    (folder / "preview/index.html").write_text("<p>")
    (folder / "preview/sheet.png").write_bytes(b"\x89PNG")
    return folder


def content(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def call(what, hub, folder, repo_id="ada/set", private=False, **environment):
    settings = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        # Its own storage protocol; the Hub takes the plain one as well.
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HOME": str(folder.parent / "hf"),
        "NO_PROXY": "*",
        **environment,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    command = [sys.executable, "-c", PUSH, what, str(folder), repo_id, "private" if private else ""]
    result = subprocess.run(command, capture_output=True, text=True, env=settings, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert TOKEN not in result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 1, result.stdout
    return lines[0]


def push(hub, folder, *args, **options):
    return call("push", hub, folder, *args, **options)


def check(hub, folder, *args, **options):
    return call("check", hub, folder, *args, **options)


@pytest.mark.parametrize("private", [False, True])
def test_everything_arrives_in_one_commit(hub, folder, private):
    assert push(hub, folder, private=private) == f"{hub.url}/datasets/ada/set"
    assert {name: data for name, data in hub.repos["ada/set"]["files"].items() if name != ".gitattributes"} == content(
        folder
    )
    assert hub.repos["ada/set"]["private"] is private
    assert hub.commits == ["ada/set"]


def test_pushed_again_it_replaces_the_old_set_only(hub, folder):
    assert push(hub, folder, "lab/set").endswith("/datasets/lab/set")
    ours = ["data/train-00000-of-00009.parquet", "data/validation-00001-of-00002.parquet", "rejected_wordings.jsonl"]
    for name in [*ours, "LICENSE", "docs/made.md"]:
        hub.repos["lab/set"]["files"][name] = b"old"
    (folder / "README.md").write_text(README + "New.\n")
    sent = hub.sent
    assert push(hub, folder, "lab/set").endswith("/datasets/lab/set")
    kept = {".gitattributes": b"old", "LICENSE": b"old", "docs/made.md": b"old"}
    assert hub.repos["lab/set"]["files"] == content(folder) | kept
    assert hub.sent == sent


def test_a_cut_push_goes_on_where_it_was(hub, folder):
    hub.faults[("POST", "/commit/")] = "cut"
    said = push(hub, folder)
    assert said.startswith("PushError: ada/set could not be pushed: ")
    assert f"the set is safe at {folder}; once that is mended, push it again with `hf upload ada/set " in said
    command = shlex.split(re.search("`(.+)`", said)[1])
    assert command == ["hf", "upload", "ada/set", str(folder), ".", "--repo-type", "dataset"]
    assert hub.repos["ada/set"]["files"].keys() == {".gitattributes"}
    hub.faults.clear()
    sent = hub.sent
    assert push(hub, folder).startswith("http")
    assert hub.repos["ada/set"]["files"].items() >= content(folder).items()
    assert hub.sent == sent


@pytest.mark.parametrize(
    ("fault", "status", "kind", "says"),
    [
        (("POST", "/commit/"), 403, "UserError", "the token may not write there"),
        (("POST", "/commit/"), 409, "UserError", "another upload to it is going on"),
        (("POST", "/commit/"), 412, "PushError", "the Hub answered HTTP 412: the server's own words xxx"),
        (("POST", "/commit/"), 500, "PushError", "the Hub answered HTTP 500"),
        (("POST", "/repos/create"), 403, "UserError", "the token may not write there"),
        (("POST", "/repos/create"), 503, "PushError", "the Hub answered HTTP 503"),
        (("POST", "/repos/create"), "cut", "PushError", "could not be pushed"),
        (("PUT", "/storage/"), 403, "UserError", "the token may not write there"),
        (("GET", "/whoami"), 401, "UserError", "the token is not valid"),
        (("GET", "/whoami"), 500, "PushError", "the Hub answered HTTP 500"),
    ],
    ids=str,
)
def test_failures_say_that_the_set_is_safe(hub, folder, fault, status, kind, says):
    hub.faults[fault] = status
    before = content(folder)
    said = push(hub, folder, private=True)
    assert said.startswith(f"{kind}: ")
    assert says in said
    assert (
        f"the set is safe at {folder}; once that is mended, push it again with `hf upload ada/set '{folder}' ." in said
    )
    assert said.endswith(" --repo-type dataset --private`")
    assert len(said) < 800
    assert content(folder) == before
    assert hub.commits == []


def test_a_set_that_may_not_be_pushed_is_safe_too(hub, folder):
    hub.add("ada/set", [".gitattributes", "manifest.json"])
    said = push(hub, folder, private=True)
    assert said.startswith("UserError: --push-to-hub ada/set: exists and is public")
    assert f"the set is safe at {folder}" in said
    assert hub.commits == []


def test_no_server(hub, folder):
    said = push(hub, folder, HF_ENDPOINT="http://127.0.0.1:9")
    assert said.startswith("PushError: ada/set could not be pushed: ")
    assert "refused" in said
    assert "the set is safe at" in said


# Before the work begins.


def test_check_gives_the_full_name_and_changes_nothing(hub, folder):
    assert check(hub, folder, "ada/set") == "ada/set"
    assert check(hub, folder, "set", private=True) == "ada/set"
    assert check(hub, folder, "lab/set") == "lab/set"
    assert hub.repos == {}
    assert {method for method, _ in hub.requests} == {"GET"}
    # No other than these two questions: the third run asked the same.
    assert hub.requests[-2:] == [("GET", "/api/whoami-v2"), ("GET", "/api/datasets/lab/set")]


@pytest.mark.parametrize(
    ("repo_id", "private", "changes", "says"),
    [
        ("a/b/c", False, {}, "'a/b/c' is no dataset's name: write owner/name"),
        ("ada/my set", False, {}, "'ada/my set' is no dataset's name"),
        ("ada/--x..", False, {}, "--push-to-hub ada/--x.."),
        ("eve/set", False, {}, "the token belongs to ada, who is not in eve"),
        ("ada/set", False, {"HF_TOKEN": None}, "there is no token: log in with `hf auth login`, or set HF_TOKEN"),
        ("ada/set", False, {"HF_TOKEN": "hf_wrong"}, "the token is not valid"),
        ("ada/set", False, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set: unset it"),
        ("ada/other", False, {}, "exists and is no prepared set, so it is not replaced"),
        ("ada/public", True, {}, "exists and is public: make it private"),
    ],
)
def test_check_refuses_what_cannot_be_pushed(hub, folder, repo_id, private, changes, says):
    hub.add("ada/other", [".gitattributes", "data/thesis.csv"])
    hub.add("ada/public", [".gitattributes", "manifest.json"])
    said = check(hub, folder, repo_id, private, **changes)
    assert said.startswith("UserError: ")
    assert says in said
    assert hub.commits == []


@pytest.mark.parametrize(
    ("account", "says"),
    [
        ({"auth": {"accessToken": {"role": "read"}}}, "the token may only read"),
        ({"orgs": [{"name": "lab", "roleInOrg": "read"}]}, "the token may only read"),
        ({"orgs": []}, "who is not in lab"),
        ({"auth": None, "orgs": [{"name": "lab"}]}, None),
        ({"name": None, "orgs": 5}, "--push-to-hub lab/set: "),
    ],
)
def test_who_may_write(hub, folder, account, says):
    hub.account |= account
    said = check(hub, folder, "lab/set")
    assert said == "lab/set" if says is None else says in said


def test_an_empty_repository_may_be_filled(hub, folder):
    hub.add("ada/set", [".gitattributes", "README.md"], private=True)
    assert check(hub, folder, private=True) == "ada/set"
    assert push(hub, folder, private=True).startswith("http")
    assert hub.repos["ada/set"]["files"].items() >= content(folder).items()


def test_links_are_not_followed(hub, folder, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (folder / "data/link.parquet").symlink_to(tmp_path / "secret")
    push(hub, folder)
    assert "data/link.parquet" not in hub.repos["ada/set"]["files"]


def prep(hub, tmp_path, *args):
    (tmp_path / "q.jsonl").write_text('{"problem": "What is 1 + 1?", "answer": "2"}\n')
    command = [sys.executable, "-m", "r1_sharevl.cli", "prep", "q.jsonl", "--out", "set", "--validation-share", "0"]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "COLUMNS": "200"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"), "NO_COLOR": "1"}
    return subprocess.run(
        [*command, *args], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_command_line_prepares_and_pushes(hub, tmp_path):
    result = prep(hub, tmp_path, "--push-to-hub", "ada/set", "--private")
    assert result.returncode == 0, result.stderr
    assert f"Hub:      {hub.url}/datasets/ada/set\n" in result.stdout
    assert hub.repos["ada/set"]["private"]
    assert hub.repos["ada/set"]["files"].items() >= content(tmp_path / "set").items()


def test_the_command_line_refuses_before_it_works_and_keeps_the_set_after(hub, tmp_path):
    hub.add("ada/set", ["thesis.tex"])
    result = prep(hub, tmp_path, "--push-to-hub", "ada/set")
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1)
    assert not (tmp_path / "set").exists()
    hub.repos.clear()
    hub.faults["POST", "/commit/"] = 500
    result = prep(hub, tmp_path, "--push-to-hub", "ada/set")
    assert result.returncode == 1
    # The client tells of its own retries first.
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "the set is safe at set" in last
    assert "Traceback" not in result.stderr
    assert (tmp_path / "set/manifest.json").exists()
