"""Getting a picture's bytes, in whatever form a record has it: embedded, base64, a path, or an address."""

import base64
import functools
import re
import stat
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from .. import __version__
from .images import CANNOT_READ, TOO_LARGE
from .row_error import RowError, shown

if TYPE_CHECKING:
    import ssl

    import httpx2

MAX_IMAGE_FILE_BYTES = 128 * 1024 * 1024

OUTSIDE = "image outside the data's folder"
NOT_FOUND = "image file not found"
IS_URL = "image is a URL"
NOT_FETCHED = "image cannot be fetched"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
# How the base64 of a PNG, JPEG, GIF, WebP, TIFF or BMP file begins.
_PICTURE_BASE64 = re.compile(r"iVBORw0KGgo|/9j/|R0lGOD|UklGR|SUkqA|TU0AK|Qk[0-3]")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]++={0,2}+\s*+")
# A text between these lengths may be a path or base64, whose first characters then decide.
_MIN_BASE64 = 40
_MAX_PATH = 1024

_TRIES = 3
_MAX_REDIRECTS = 3
_MAX_WAIT_S = 30.0


@dataclass(frozen=True)
class ImageFetcher:
    """Gets pictures; small enough to be sent to worker processes.

    Attributes:
        base: The data's folder: paths are relative to it and cannot lead out of it. None refuses every path.
        allow_urls: Whether http and https addresses may be fetched.
        time_limit_s: Seconds that one attempt at an address may take.
        first_wait_s: Seconds before the second attempt; each further one waits twice as long.
    """

    base: Path | None
    allow_urls: bool = False
    time_limit_s: float = 30.0
    first_wait_s: float = 1.0

    def fetch(self, value: Any, where: str) -> bytes | PIL.Image.Image:
        """Give a picture file's bytes, not decoded.

        Args:
            value: Bytes; `{"bytes": …, "path": …}` with bytes or base64, either may be missing; `{"url": …}`; base64
                text with or without `data:…;base64,` in front; a path; an address; or a decoded picture.
            where: The row and field, for error messages.

        Returns:
            The file's bytes, at most `MAX_IMAGE_FILE_BYTES`; a decoded picture as it is.

        Raises:
            RowError: It is none of these, is too large, cannot be had, or may not be read.
        """
        if isinstance(value, PIL.Image.Image):
            return value
        if isinstance(value, Mapping):
            data = value.get("bytes")
            if isinstance(data, str):
                return _from_base64(data, where)
            value = next((item for item in (data, value.get("path"), value.get("url")) if item is not None), value)
        if isinstance(value, bytes | bytearray):
            return _bounded(bytes(value), where)
        if not isinstance(value, str):
            raise RowError(
                CANNOT_READ,
                f'{where}: expected a path, or an object with base64 "bytes" or a "path", found {shown(value)}',
            )
        if value[:5].lower() == "data:":
            return _from_data_url(value, where)
        if _URL.match(value):
            return self._download(value, where)
        return _from_base64(value, where) if _is_base64(value) else self._read_inside(value, where)

    def _read_inside(self, path: str, where: str) -> bytes:
        """Read a file that must lie inside `base` once every symbolic link is followed."""
        if self.base is None:
            raise RowError(
                OUTSIDE, f"{where}: {shown(path)} is a path, but this input has no folder: embed the picture"
            )
        base = self.base.resolve()
        try:
            target = (base / path).resolve()
            # Before anything is asked of the file: not even whether it exists is told of a place outside.
            if not target.is_relative_to(base):
                raise RowError(
                    OUTSIDE, f"{where}: {shown(path)} leads out of {base}: move the picture into that folder"
                )
            status = target.stat()
            # A pipe would be waited for forever.
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_IMAGE_FILE_BYTES:
                raise RowError(
                    CANNOT_READ, f"{where}: {shown(path)} is not a file of at most {MAX_IMAGE_FILE_BYTES // 2**20} MiB"
                )
            return target.read_bytes()
        except FileNotFoundError as error:
            raise RowError(
                NOT_FOUND, f"{where}: no file {shown(path)} in {base}: put it there or correct the path"
            ) from error
        except RowError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            # ValueError: a NUL character in the path; RuntimeError: symbolic links in a circle (Python < 3.13).
            what = getattr(error, "strerror", None) or str(error)
            raise RowError(
                CANNOT_READ, f"{where}: cannot read {shown(path)} in {base}: {what}: correct the path"
            ) from error

    def _download(self, url: str, where: str) -> bytes:
        """Fetch an address, again where another attempt may help."""
        if not url.lower().startswith(("http://", "https://")):
            raise RowError(IS_URL, f"{where}: {shown(url)} is an address of another kind than http and https: save it")
        if not self.allow_urls:
            raise RowError(IS_URL, f"{where}: {shown(url)} is an address: allow fetching it with --allow-urls")
        found = self._attempt(url, where)
        for repeat in range(_TRIES - 1):
            if isinstance(found, bytes) or not found.again:
                break
            time.sleep(min(max(self.first_wait_s * 2**repeat, found.wait_s), _MAX_WAIT_S))
            found = self._attempt(url, where)
        if isinstance(found, bytes):
            return found
        raise RowError(NOT_FETCHED, f"{where}: {shown(url)} cannot be fetched: {found.what}: save it beside the data")

    def _attempt(self, url: str, where: str) -> "bytes | _Failure":
        import httpx2

        content = bytearray()
        client = httpx2.Client(
            verify=_tls_context(),
            timeout=self.time_limit_s,
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            # Not compressed: what arrives is what is counted.
            headers={"User-Agent": f"r1-sharevl/{__version__}", "Accept-Encoding": "identity"},
        )
        # The client's own limits begin again with every byte that arrives, and a server may send one at a time.
        over = threading.Event()

        def stop() -> None:
            over.set()
            client.close()

        timer = threading.Timer(self.time_limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            with client, client.stream("GET", url) as response:
                if response.status_code != 200:
                    return _failure(response)
                for chunk in response.iter_bytes(2**16):
                    content += chunk
                    if len(content) > MAX_IMAGE_FILE_BYTES:
                        raise _too_large(where)
            return bytes(content)
        except RowError:
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, RuntimeError) as error:
            if over.is_set() or isinstance(error, httpx2.TimeoutException):
                return _Failure(f"it takes more than {self.time_limit_s:g} seconds", again=True)
            # A redirect to file:// and too many redirects, for two, stay what they are.
            passing = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
            return _Failure(" ".join(str(error).split())[:200] or type(error).__name__, again=passing)
        finally:
            timer.cancel()


@dataclass(frozen=True)
class _Failure:
    """Why an attempt brought nothing, whether another one may, and after how many seconds at the earliest."""

    what: str
    again: bool = False
    wait_s: float = 0.0


def _failure(response: "httpx2.Response") -> _Failure:
    status = response.status_code
    asked = response.headers.get("Retry-After", "")
    return _Failure(
        f"the server answers {status}",
        again=status == 429 or status >= 500,
        wait_s=float(asked) if asked.isascii() and asked.isdigit() else 0.0,
    )


@functools.lru_cache(maxsize=1)
def _tls_context() -> "ssl.SSLContext":
    """Read the certificates once, not for each picture."""
    import httpx2

    return httpx2.create_ssl_context()


def _is_base64(text: str) -> bool:
    if len(text) < _MIN_BASE64:
        return False
    return (len(text) > _MAX_PATH or _PICTURE_BASE64.match(text) is not None) and _BASE64.fullmatch(text) is not None


def _from_data_url(text: str, where: str) -> bytes:
    match = _DATA_URL.match(text)
    if match is None:
        raise RowError(CANNOT_READ, f"{where}: {shown(text)} has no base64 content: write data:image/png;base64,…")
    return _from_base64(text[match.end() :], where)


def _from_base64(text: str, where: str) -> bytes:
    if len(text) > MAX_IMAGE_FILE_BYTES * 3 // 2:
        raise _too_large(where)
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise RowError(CANNOT_READ, f"{where}: is not base64 ({error}): encode the file's bytes") from error
    return _bounded(data, where)


def _bounded(data: bytes, where: str) -> bytes:
    if len(data) > MAX_IMAGE_FILE_BYTES:
        raise _too_large(where)
    return data


def _too_large(where: str) -> RowError:
    return RowError(TOO_LARGE, f"{where}: the file has more than {MAX_IMAGE_FILE_BYTES // 2**20} MiB: scale it down")
