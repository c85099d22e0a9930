"""Ask a model behind an OpenAI-compatible endpoint: bounded, throttled, with retries, and no reply paid for twice."""

import asyncio
import base64
import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import httpx2
import openai

from ...errors import UserError
from ..answer_cache import AnswerCache
from .replies import MAX_REPLY_CHARACTERS, Reply
from .rewriter import Usage
from .settings import OPENAI_KEY_VARIABLE, OPENAI_URL, ApiSettings
from .throttle import Throttle

GIVE_UP_AFTER = 10
"""Requests in a row that fail for good before the server counts as gone."""

_NO_KEY = "none"
_SHORTEST_SECRET = 12
_CONNECT_TIMEOUT_S = 10.0
_MAX_BODY_BYTES = 4 << 20
_MAX_WAIT_S = 120.0  # the client does not retry where a server asks for a longer one
_UNSUPPORTED = (400, 404, 422, 501)
# How a run can end up asking, best first.
_FORMATS = ("json_schema", "json_object", "text")
_MODERATED = re.compile(r"moderat|flagged|content[ _-]?(?:policy|filter)|safety", re.IGNORECASE)

_Result = TypeVar("_Result")


class RequestFailed(Exception):  # noqa: N818 - it is no error of the run: one question goes without
    """A request failed for good; the message is one line."""


@dataclass(frozen=True)
class _Dialect:
    """What of a request a model's endpoint takes. Learned from refusals, and no part of the cache's key.

    Attributes:
        reply_format: Index in `_FORMATS`.
        limit_name: How the token limit is called.
        takes_temperature: Whether it may be sent.
    """

    reply_format: int = 0
    limit_name: str = "max_tokens"
    takes_temperature: bool = True


class ChatApi:
    """Asks one endpoint, from an event loop in a thread of its own.

    Attributes:
        usage: What was asked so far.
    """

    def __init__(self, settings: ApiSettings, cache_file: Path, throttle: Throttle | None = None) -> None:
        """Open the cache; nothing is sent yet.

        Args:
            settings: Endpoint, limits and prices.
            cache_file: Where replies are kept.
            throttle: What spaces the requests; None makes one of the settings.

        Raises:
            UserError: There is no key where one is needed, or the cache cannot be used.
        """
        self._settings = settings
        self._key = _key_of(settings)
        self._cache_file = cache_file
        self._cache = AnswerCache(cache_file)
        priced = settings.price_in is not None or settings.price_out is not None
        self.usage = Usage(cost=0.0 if priced else None)
        self._throttle = throttle or Throttle(settings.requests_per_minute)
        self._under_way = asyncio.Semaphore(settings.concurrency)
        self._asking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._proven_dialects: dict[str, _Dialect] = {}
        self._reached = False  # has the server answered anything, if only with an error?
        self._failed_in_a_row = 0
        self._refused = 0
        self._ended: UserError | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chat-api", daemon=True)
        self._thread.start()
        self._client = openai.AsyncOpenAI(
            base_url=settings.base_url,
            api_key=self._key,
            max_retries=settings.max_retries,
            timeout=openai.Timeout(settings.timeout_s, connect=min(_CONNECT_TIMEOUT_S, settings.timeout_s)),
            # The body is bounded as it is sent, so it must not be compressed.
            default_headers={"Accept-Encoding": "identity"},
            # Hooks, because they are also called for what the client sends again by itself.
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"request": [self._before_request], "response": [self._check_response]}
            ),
        )

    def start(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        """Run a coroutine that asks in the event loop's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop_all(self) -> None:
        """Cancel all that was started; nothing is under way any more when this returns."""
        # An iterator that was never closed gets here when the interpreter ends, and the thread has ended before.
        if self._loop.is_closed() or sys.is_finalizing():
            return

        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result()

    def close(self) -> None:
        """Let go of connections, thread and cache; calling it again does nothing."""
        if self._loop.is_closed() or sys.is_finalizing():
            return
        self.stop_all()
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._cache.close()

    async def ask(
        self, model: str, prompt: str, images: Sequence[bytes], schema: dict[str, Any], temperature: float, attempt: int
    ) -> Reply:
        """Ask once, or take the reply from the cache.

        Args:
            model: The model's name.
            prompt: The text.
            images: Encoded pictures (PNG or JPEG), put in front of the text.
            schema: JSON schema of the reply, for endpoints that can hold the model to it.
            temperature: Softmax temperature.
            attempt: Tells apart askings of the same prompt; each has a reply of its own.

        Returns:
            The reply.

        Raises:
            RequestFailed: This request cannot be answered.
            UserError: No request will be: address, key or model is wrong, or the server is gone.
        """
        hashes = [hashlib.sha256(image).hexdigest() for image in images]
        key = AnswerCache.key("chat", model, prompt, hashes, temperature, self._settings.max_tokens, attempt)
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:  # the same question in flight twice is asked once
            kept = self._cache.get(key)
            if kept is not None:
                self.usage.cached += 1
                return Reply(kept["text"], kept["finish"])
            async with self._under_way:
                if self._ended is not None:  # those that waited need not find out for themselves
                    raise self._ended
                try:
                    answer = await self._send(model, prompt, images, schema, temperature)
                except UserError as error:
                    self._ended = error
                    raise
            reply = self._reply_of(answer)
            self._cache.put(key, {"text": reply.text, "finish": reply.finish})
        self._count(answer.get("usage"))
        return reply

    async def _send(
        self, model: str, prompt: str, images: Sequence[bytes], schema: dict[str, Any], temperature: float
    ) -> dict[str, Any]:
        """Send a request until it is answered or fails for good, learning the endpoint's dialect on the way."""
        content = [*map(_image_part, images), {"type": "text", "text": prompt}] if images else prompt
        dialect = self._proven_dialects.get(model) or _Dialect()
        while True:
            body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
            body[dialect.limit_name] = self._settings.max_tokens
            if dialect.takes_temperature:
                body["temperature"] = temperature
            if _FORMATS[dialect.reply_format] == "json_schema":
                named = {"name": "reply", "strict": True, "schema": schema}
                body["response_format"] = {"type": "json_schema", "json_schema": named}
            elif _FORMATS[dialect.reply_format] == "json_object":
                body["response_format"] = {"type": "json_object"}
            try:
                response = await self._post(body)
            except openai.APIStatusError as error:
                if error.status_code not in _UNSUPPORTED:
                    raise self._failure(error) from error
                proven = self._proven_dialects.get(model)
                simpler = _simpler(dialect, error) if proven is None else proven
                if simpler is None or simpler == dialect:
                    raise self._failure(error) from error
                dialect = simpler
                continue
            except openai.OpenAIError as error:
                raise self._failure(error) from error
            except UnicodeEncodeError as error:
                raise RequestFailed("the question has a character that cannot be sent (a lone surrogate)") from error
            self._failed_in_a_row = 0
            # The first that goes through holds for the run: a refusal then has another cause.
            self._proven_dialects.setdefault(model, dialect)
            answer: dict[str, Any] = json.loads(response.content)
            return answer

    async def _post(self, body: dict[str, Any]) -> httpx2.Response:
        """Send with the client's own retries; only a server that was never reached gets no second chance."""
        retries = self._settings.max_retries
        if not self._reached:
            try:
                return await self._post_once(body, max_retries=0)
            except openai.APIConnectionError as error:
                if not self._reached and isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout):
                    reason = self._line(str(error.__cause__)) or "no connection"
                    raise UserError(
                        f"--base-url: {self._settings.base_url}: cannot be reached ({reason}): start the server or "
                        "mend the address"
                    ) from error
                if retries == 0:
                    raise
            except openai.APIStatusError as error:
                if retries == 0 or not _is_passing(error):
                    raise
            retries -= 1
        return await self._post_once(body, max_retries=retries)

    async def _post_once(self, body: dict[str, Any], max_retries: int) -> httpx2.Response:
        return await self._client.post(
            "/chat/completions", cast_to=httpx2.Response, body=body, options={"max_retries": max_retries}
        )

    async def _before_request(self, _: httpx2.Request) -> None:
        await self._throttle.wait()

    async def _check_response(self, response: httpx2.Response) -> None:
        """Judge a response before the client does, so that its retries cover more."""
        self._reached = True
        response.stream = _BoundedStream(response, self._settings.timeout_s)
        if response.status_code in (429, 503) and (wait := _asked_wait(response.headers)) is not None:
            self._throttle.pause(min(wait, _MAX_WAIT_S))
        if response.status_code == 501:
            response.headers["x-should-retry"] = "false"  # not implemented now, not implemented in a second
        if response.is_success:
            await response.aread()
            fault = _fault_of(response.content)
            if fault is not None:
                raise httpx2.RemoteProtocolError(fault, request=response.request)

    def _reply_of(self, answer: dict[str, Any]) -> Reply:
        choice = answer["choices"][0]
        message = choice["message"]
        content, finish = message.get("content"), choice.get("finish_reason")
        if isinstance(content, list):  # some servers give parts
            content = "".join(
                part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
        if message.get("refusal"):
            finish = "content_filter"
        text = self._without_key(content if isinstance(content, str) else "")[:MAX_REPLY_CHARACTERS]
        return Reply(text, finish if isinstance(finish, str) else "stop")

    def _count(self, tokens: Any) -> None:
        sent = _count_in(tokens, "prompt_tokens")
        received = _count_in(tokens, "completion_tokens")
        self.usage.requests += 1
        self.usage.prompt_tokens += sent
        self.usage.completion_tokens += received
        if self.usage.cost is not None:
            millions = sent * (self._settings.price_in or 0.0) + received * (self._settings.price_out or 0.0)
            self.usage.cost += millions / 1e6

    def _failure(self, error: openai.OpenAIError) -> Exception:
        """Tell what fails this question from what fails the run."""
        reason = self._reason(error)
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        where = f"{self._settings.base_url}: {reason}"
        answered = self.usage.requests > 0
        moderated = status in (400, 403) and _MODERATED.search(reason) is not None
        if status == 401 or (status == 403 and not answered and not moderated):
            return UserError(f"--base-url: {where}: set {self._settings.api_key_env} to a key that may use the model")
        if status == 404 and not answered:
            return UserError(f"--base-url: {where}: check the address (it often ends in /v1) and --model")
        if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
            return UserError(f"--base-url: {where}: add credit, then {self._resume()}")
        if isinstance(error, openai.APIStatusError) and status in (429, 503):
            wait = _asked_wait(error.response.headers)
            if wait is not None and wait > _MAX_WAIT_S:
                return UserError(f"--base-url: {where}: it asks to wait {wait:,.0f} s: after that {self._resume()}")
        if status in (400, 413, 422) or moderated:
            # The question's own fault, unless no question is good enough for this server.
            self._refused += 1
            if self._refused >= GIVE_UP_AFTER and self.usage.requests + self.usage.cached == 0:
                return UserError(f"--base-url: {where} (the same for {self._refused} questions): mend what it names")
            return RequestFailed(reason)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= GIVE_UP_AFTER:
            return UserError(
                f"--base-url: {self._settings.base_url}: the server stopped answering ({GIVE_UP_AFTER} questions in a "
                f"row failed, the last with {reason}): {self._resume()}"
            )
        return RequestFailed(reason)

    def _resume(self) -> str:
        kept = self.usage.requests + self.usage.cached
        return f"run the same command again, {kept:,} answers are kept in {self._cache_file}"

    def _reason(self, error: openai.OpenAIError) -> str:
        if isinstance(error, openai.APITimeoutError):
            return f"no answer within {self._settings.timeout_s:g} s"
        if isinstance(error, openai.APIStatusError):
            return f"HTTP {error.status_code}: {self._line(_server_message(error))}"
        return f"connection failed: {self._line(str(error.__cause__ or error)) or type(error.__cause__).__name__}"

    def _line(self, text: str) -> str:
        """Make one short line of what a server said, without the key that it may repeat."""
        start = self._without_key(text)[:2000]
        line = " ".join("".join(character if character.isprintable() else " " for character in start).split())
        return line if len(line) <= 200 else line[:200] + "…"

    def _without_key(self, text: str) -> str:
        # Local servers are given words such as EMPTY as a key, which a question may hold too.
        return text if len(self._key) < _SHORTEST_SECRET else text.replace(self._key, "***")


class _BoundedStream(httpx2.AsyncByteStream):
    """A response's body, given up where it is too long or trickles."""

    def __init__(self, response: httpx2.Response, timeout_s: float) -> None:
        self._response = response
        self._stream = response.stream
        self._deadline = time.monotonic() + timeout_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        request = self._response.request
        if self._response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.RemoteProtocolError("the reply is compressed, which was not asked for", request=request)
        size = 0
        assert isinstance(self._stream, httpx2.AsyncByteStream)  # noqa: S101 - for mypy: the client is asynchronous
        async for part in self._stream:
            size += len(part)
            if size > _MAX_BODY_BYTES:
                raise httpx2.RemoteProtocolError(f"the reply is larger than {_MAX_BODY_BYTES:,} bytes", request=request)
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the reply trickles", request=request)
            yield part

    async def aclose(self) -> None:
        assert isinstance(self._stream, httpx2.AsyncByteStream)  # noqa: S101
        await self._stream.aclose()


def _key_of(settings: ApiSettings) -> str:
    key = os.environ.get(settings.api_key_env, "").strip()
    if key:
        if not key.isascii() or not key.isprintable():
            raise UserError(f"--api-key-env: {settings.api_key_env} holds characters that no key has: set it again")
        return key
    if settings.api_key_env != OPENAI_KEY_VARIABLE or settings.base_url == OPENAI_URL:
        raise UserError(
            f"--api-key-env: the environment variable {settings.api_key_env} is not set: export the key in it"
        )
    return _NO_KEY


def _image_part(image: bytes) -> dict[str, Any]:
    mime = "image/png" if image.startswith(b"\x89PNG") else "image/jpeg"
    return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{base64.b64encode(image).decode()}"}}


def _simpler(dialect: _Dialect, error: openai.APIStatusError) -> _Dialect | None:
    """Leave out what the endpoint may have refused; None where nothing is left to leave out."""
    message = _server_message(error)
    if "max_completion_tokens" in message and dialect.limit_name == "max_tokens":
        return replace(dialect, limit_name="max_completion_tokens")
    if "temperature" in message and dialect.takes_temperature:
        return replace(dialect, takes_temperature=False)
    if dialect.reply_format + 1 < len(_FORMATS):
        # Servers word this refusal in many ways: whether the format was the cause shows in what comes next.
        return replace(dialect, reply_format=dialect.reply_format + 1)
    return None


def _is_passing(error: openai.APIStatusError) -> bool:
    """Say whether the client would have sent it again."""
    wait = _asked_wait(error.response.headers)
    if (wait is not None and wait > _MAX_WAIT_S) or error.response.headers.get("x-should-retry") == "false":
        return False
    return error.status_code in (408, 409, 429) or error.status_code >= 500


def _asked_wait(headers: httpx2.Headers) -> float | None:
    """Give the seconds that a server asks to wait, None where it does not."""
    text = headers.get("retry-after", "")
    for value, divisor in ((headers.get("retry-after-ms", ""), 1000), (text, 1)):
        try:
            seconds = float(value) / divisor
        except ValueError:
            continue
        return seconds if seconds > 0 else None  # infinity is a wait too; not-a-number is none
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time()) or None
    except (ValueError, OverflowError, OSError):
        return None


def _fault_of(content: bytes) -> str | None:
    """Say what is wrong with the body of a successful response, None where it is a chat completion."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return "the reply is no JSON"
    if not isinstance(answer, dict):
        return "the reply is no chat completion"
    if answer.get("error"):  # some routers report their own upstream's failure with status 200
        return f"the reply is an error: {json.dumps(answer['error'])[:200]}"
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "the reply has no choices"
    return None if isinstance(choices[0].get("message"), dict) else "the reply has no message"


def _server_message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return body if isinstance(body, str) else error.message


def _count_in(tokens: Any, name: str) -> int:
    count = tokens.get(name) if isinstance(tokens, dict) else None
    return count if isinstance(count, int) and count > 0 else 0
