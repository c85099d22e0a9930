import base64
import io
import os
import pickle
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import PIL.Image
import pytest

import r1_sharevl.data.fetching as fetching
from r1_sharevl.data.fetching import ImageFetcher
from r1_sharevl.data.row_error import RowError


def png(colour="red"):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def reason_of(fetcher, value):
    with pytest.raises(RowError) as caught:
        fetcher.fetch(value, "a.jsonl, line 3: image 1")
    assert str(caught.value).startswith("a.jsonl, line 3: image 1: ")
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.reason


# Forms a picture can have in a record.


@pytest.fixture
def folder(tmp_path):
    """A data folder with a secret picture beside it."""
    (tmp_path / "data/img").mkdir(parents=True)
    (tmp_path / "data/img/a.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png("blue"))
    return tmp_path / "data"


def test_every_form_gives_the_same_bytes(folder):
    text = base64.b64encode(png()).decode()
    fetcher = ImageFetcher(folder)
    for value in [
        png(),
        bytearray(png()),
        {"bytes": png(), "path": "x.png"},
        {"bytes": png()},
        {"bytes": text, "path": None},
        {"bytes": None, "path": "img/a.png"},
        {"path": "img/a.png"},
        {"url": "img/a.png"},
        "img/a.png",
        "./img/../img/a.png",
        str(folder / "img/a.png"),
        text,
        "\n".join(text[start : start + 76] for start in range(0, len(text), 76)),
        f"data:image/png;base64,{text}",
        f"DATA:;base64,{text}",
    ]:
        assert fetcher.fetch(value, "row") == png()


def test_decoded_pictures_are_left_alone(folder):
    picture = PIL.Image.new("RGB", (2, 2))
    assert ImageFetcher(folder).fetch(picture, "row") is picture


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_base64_of_a_small_picture_is_no_path(fmt):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(buffer, format=fmt)
    text = base64.b64encode(buffer.getvalue()).decode()
    assert ImageFetcher(None).fetch(text, "row") == buffer.getvalue()


def test_long_paths_are_no_base64(folder):
    deep = folder / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    (deep / "picture").write_bytes(png("green"))
    assert ImageFetcher(folder).fetch(str((deep / "picture").relative_to(folder)), "row") == png("green")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "image cannot be read"),
        (5, "image cannot be read"),
        ({}, "image cannot be read"),
        ({"bytes": None, "path": None}, "image cannot be read"),
        ({"bytes": "not base64!"}, "image cannot be read"),
        ("data:image/png;base64,***", "image cannot be read"),
        ("data:image/svg+xml,<svg/>", "image cannot be read"),
        ("", "image cannot be read"),
        (".", "image cannot be read"),
        ("a\0b", "image cannot be read"),
        ("x/" * 3000 + "a.png", "image cannot be read"),
        ("A" * 2000 + " " * 200_000 + "!", "image cannot be read"),
        ("no-such.png", "image file not found"),
        ("../secret.png", "image outside the data's folder"),
        ("img/../../secret.png", "image outside the data's folder"),
        ("../no-such.png", "image outside the data's folder"),
        ("/etc/passwd", "image outside the data's folder"),
        ("link.png", "image outside the data's folder"),
        ("dir/secret.png", "image outside the data's folder"),
        ({"path": "../secret.png"}, "image outside the data's folder"),
        ("pipe.png", "image cannot be read"),
        ("round.png", "image cannot be read"),
        ("http://127.0.0.1/a.png", "image is a URL"),
        ("HTTPS://127.0.0.1/a.png", "image is a URL"),
        ({"url": "http://127.0.0.1/a.png"}, "image is a URL"),
        ("file:///etc/passwd", "image is a URL"),
        ("s3://bucket/a.png", "image is a URL"),
    ],
)
def test_what_is_refused(folder, value, reason):
    (folder / "link.png").symlink_to("../secret.png")
    (folder / "dir").symlink_to("..")
    (folder / "round.png").symlink_to("round.png")
    os.mkfifo(folder / "pipe.png")  # reading it would wait forever
    assert reason_of(ImageFetcher(folder), value) == reason


def test_other_addresses_are_refused_even_when_addresses_are_allowed(folder):
    assert reason_of(ImageFetcher(folder, allow_urls=True), (folder / "img/a.png").as_uri()) == "image is a URL"


def test_links_inside_the_folder_are_followed(folder):
    (folder / "link.png").symlink_to("img/a.png")
    assert ImageFetcher(folder).fetch("link.png", "row") == png()
    (folder.parent / "alias").symlink_to("data")
    assert ImageFetcher(folder.parent / "alias").fetch("img/a.png", "row") == png()


def test_without_a_folder_no_path_is_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert reason_of(ImageFetcher(None), "img/a.png") == "image outside the data's folder"
    assert reason_of(ImageFetcher(None), str(folder / "img/a.png")) == "image outside the data's folder"


def test_too_large_ones_are_refused(folder, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_IMAGE_FILE_BYTES", 2**20)
    large = bytes(2**20 + 1)
    (folder / "large.png").write_bytes(large)
    fetcher = ImageFetcher(folder)
    assert reason_of(fetcher, large) == "image too large"
    assert reason_of(fetcher, base64.b64encode(large).decode()) == "image too large"
    assert reason_of(fetcher, {"bytes": base64.b64encode(large * 2).decode()}) == "image too large"
    assert reason_of(fetcher, "large.png") == "image cannot be read"


def test_it_can_be_sent_to_another_process(folder):
    fetcher = ImageFetcher(folder, allow_urls=True)
    assert pickle.loads(pickle.dumps(fetcher)) == fetcher  # noqa: S301
    assert len(pickle.dumps(fetcher)) < 500


# Addresses: a real server that misbehaves.


class Misbehaving(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        times = self.server.asked.count(self.path)
        kind = self.path.strip("/").split("/")
        if kind[0] == "ok" or (kind[0] == "twice" and times > 2):
            self.answer(200, png())
        elif kind[0] == "twice":
            if kind[1] == "cut":
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
            else:
                self.answer(int(kind[1]), b"busy", **({"Retry-After": "0"} if kind[1] == "429" else {}))
        elif kind[0] == "status":
            self.answer(int(kind[1]), b"no")
        elif kind[0] == "redirect":
            self.answer(302, b"", Location=self.server.targets[kind[1]])
        elif kind[0] == "slow":
            if kind[1] == "content":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            elif kind[1] == "head":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            self.drip()
        elif kind[0] == "endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.pour()

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def drip(self):
        """Send a byte now and then, so that no single wait of the client is long."""
        self.close_connection = True
        while not self.server.over.wait(0.02) and self.path != "/slow/nothing":
            try:
                self.wfile.write(b"x")
            except OSError:
                return
        self.server.over.wait(20)

    def pour(self):
        self.close_connection = True
        try:
            while not self.server.over.is_set():
                self.wfile.write(bytes(2**16))
        except OSError:
            return

    def log_message(self, *_):
        pass


@contextmanager
def misbehaving_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    server.asked, server.targets, server.over = [], {}, threading.Event()
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def running():
    with misbehaving_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.asked.clear()
    return running


def fetch(server, path, **settings):
    fetcher = ImageFetcher(None, allow_urls=True, **{"first_wait_s": 0.001, **settings})
    return fetcher.fetch(f"http://127.0.0.1:{server.server_port}{path}", "row: image 1")


def failure(server, path, **settings):
    with pytest.raises(RowError) as caught:
        fetch(server, path, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_pictures_are_fetched(server):
    assert fetch(server, "/ok") == png()
    server.targets["here"] = "/ok"
    assert fetch(server, "/redirect/here") == png()


def test_nothing_is_asked_for_without_leave(server):
    url = f"http://127.0.0.1:{server.server_port}/ok"
    with pytest.raises(RowError, match="--allow-urls"):
        ImageFetcher(None).fetch(url, "row")
    assert server.asked == []


@pytest.mark.parametrize("kind", ["429", "500", "503", "cut"])
def test_passing_faults_are_outlasted(server, kind):
    path = f"/twice/{kind}"
    assert fetch(server, path) == png()
    assert server.asked == [path] * 3


def test_lasting_faults_are_given_up(server):
    assert failure(server, "/status/503").reason == "image cannot be fetched"
    assert server.asked == ["/status/503"] * 3


@pytest.mark.parametrize("status", [204, 401, 404, 410])
def test_a_clear_no_is_taken_at_once(server, status):
    error = failure(server, f"/status/{status}")
    assert error.reason == "image cannot be fetched"
    assert f"the server answers {status}" in str(error)
    assert len(server.asked) == 1


def test_redirects_lead_to_http_only_and_end(server, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    server.targets["file"] = (tmp_path / "a.png").as_uri()
    assert failure(server, "/redirect/file").reason == "image cannot be fetched"
    assert len(server.asked) == 1
    server.targets["round"] = "/redirect/round"
    assert failure(server, "/redirect/round").reason == "image cannot be fetched"
    assert len(server.asked) == 1 + 4


@pytest.mark.parametrize("part", ["nothing", "head", "content"])
def test_slow_servers_are_left(server, part):
    error = failure(server, f"/slow/{part}", time_limit_s=0.1)
    assert error.reason == "image cannot be fetched"
    assert "takes more than 0.1 seconds" in str(error)
    assert len(server.asked) == 3


def test_endless_answers_are_cut(server, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_IMAGE_FILE_BYTES", 2**20)
    assert failure(server, "/endless").reason == "image too large"
    assert len(server.asked) == 1


def test_nobody_there():
    with misbehaving_server() as server:
        pass
    error = failure(server, "/ok")
    assert error.reason == "image cannot be fetched"


@pytest.mark.parametrize("url", ["http://", "http://[", "http://exa mple\n/x", "http://\ud800/x", "http://:99999/"])
def test_malformed_addresses(url):
    assert reason_of(ImageFetcher(None, allow_urls=True, first_wait_s=0.001), url) == "image cannot be fetched"
