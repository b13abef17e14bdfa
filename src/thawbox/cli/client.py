"""Requests to the server: its address, the API key, and its errors as sentences."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from thawbox.settings import load

from .failure import Failure

LOCAL_KEY = "local.key"
"""The file in the state folder with the API key that ``thaw serve`` made for use on the same machine."""

_TIMEOUT = httpx.Timeout(60, connect=5)
# If the snapshot cannot be used, creating a sandbox means a cold boot with start command and ready check.
_SLOW_TIMEOUT = httpx.Timeout(600, connect=5)


def server_url() -> str:
    """The server's URL: ``THAWBOX_URL``, else loopback with the port from the settings.

    Raises:
        Failure: ``THAWBOX_URL`` is not a URL.
    """
    url = os.environ.get("THAWBOX_URL") or f"http://127.0.0.1:{load().port or 7070}"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Failure(f"THAWBOX_URL = {url!r} is not a URL: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Failure(f"THAWBOX_URL = {url!r} is not a URL; it should look like http://127.0.0.1:7070.")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether the host of ``url`` is this machine's loopback address."""
    host = httpx.URL(url).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def api_key(url: str) -> str | None:
    """The API key: ``THAWBOX_API_KEY``, else the key in the state folder if the server is on this machine.

    None if that folder has no key yet.

    Raises:
        Failure: the server is elsewhere and no key is set, or the file with the key cannot be read.
    """
    if key := os.environ.get("THAWBOX_API_KEY"):
        return key.strip()
    if not is_loopback(url):
        raise Failure(f"No key for {url}. Set THAWBOX_API_KEY; on the server, 'thaw keys create' makes one.")
    file = Path(load().state) / LOCAL_KEY
    try:
        return file.read_text().strip() or None
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise Failure(
            f"{file} holds this server's local key, but only root may read it. "
            "Run as root, or set THAWBOX_API_KEY to a key made with 'sudo thaw keys create'."
        ) from error


class Unreachable(Failure):
    """No server answers at the address."""


class ApiError(Failure):
    """The server answered with an error: ``status`` is the HTTP status, ``code`` the code in the body."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Server:
    """A client of the control plane, with the API key of the environment."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http = http
        self.url = url

    def call(self, method: str, path: str, **extra: Any) -> dict[str, Any]:
        """Send one request; ``extra`` goes to httpx. Returns the JSON object of the answer.

        Raises:
            ApiError: the server answered with an error.
            Unreachable: no server answers.
            Failure: the answer is not a JSON object, so it does not come from Thawbox.
        """
        try:
            response = self._http.request(method, path, **extra)
        except httpx.ConnectError as error:
            raise Unreachable(not_running(self.url)) from error
        except httpx.TimeoutException as error:
            raise Unreachable(
                f"{self.url} does not answer in time. Look at the log of 'thaw serve'."
            ) from error
        except httpx.TransportError as error:
            raise Unreachable(f"{self.url} closed the connection: {error}. Try again.") from error
        return answer(response)

    def create_sandbox(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/sandboxes, with a timeout that is long enough for a cold boot. Raises as ``call``."""
        return self.call("POST", "/v1/sandboxes", json=body, timeout=_SLOW_TIMEOUT)

    def put_upload(self, url: str, archive: Path, size: int) -> None:
        """Send the file ``archive`` of ``size`` bytes to a signed URL of upload-link, without the API key.

        Raises:
            ApiError: the server refused it.
        """
        headers = {"Content-Type": "application/gzip", "Content-Length": str(size)}
        with archive.open("rb") as content:
            response = httpx.put(
                url,
                content=content,
                headers=headers,
                timeout=_SLOW_TIMEOUT,
                trust_env=not is_loopback(url),
            )
        if not response.is_success:
            answer(response)


@contextmanager
def connect() -> Iterator[Server]:
    """A client of the server that the environment names.

    Raises:
        Failure: the environment names no valid URL, or no API key can be found.
    """
    url = server_url()
    key = api_key(url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # Programs on one machine do not go through the proxy for the internet.
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=not is_loopback(url)
    ) as http:
        yield Server(http, url)


@contextmanager
def connect_sandbox(sandbox: dict[str, Any]) -> Iterator[httpx.Client]:
    """An HTTP client for the sandbox's own address. ``sandbox`` is a record with ``public_host`` and ``auth_token``."""
    url = str(sandbox["public_host"])
    headers = {"Authorization": f"Bearer {sandbox['auth_token']}"}
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=not is_loopback(url)
    ) as http:
        yield http


def answer(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer with a success status.

    Raises:
        ApiError: the answer has an error status; the message is that of its body, with a remedy.
        Failure: the answer is not a JSON object.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success and isinstance(body, dict):
        return body
    if not isinstance(body, dict):
        raise Failure(
            f"{response.request.url} answered {response.status_code} without a JSON object. "
            "Does THAWBOX_URL name a Thawbox server?"
        )
    message = str(body.get("message") or body.get("error") or f"The server answered {response.status_code}")
    if response.status_code == 401:
        message = (
            f"{message.rstrip('.')}. Set THAWBOX_API_KEY to a key that 'thaw keys create' made there; "
            "for a server on this machine, unset it and run as root with the same THAWBOX_STATE"
        )
    elif response.status_code == 429 and (wait := body.get("retry_after")):
        message = f"{message.rstrip('.')}. Try again in {wait} s"
    elif response.status_code >= 500:
        message = f"{message.rstrip('.')} (request {body.get('request_id')}, see the server's log)"
    raise ApiError(message.rstrip(".") + ".", status=response.status_code, code=str(body.get("code") or ""))


def not_running(url: str) -> str:
    """The message for the case that no server listens at ``url``."""
    if is_loopback(url):
        return f"No server answers at {url}. Start one with 'sudo thaw serve', or set THAWBOX_URL."
    return f"No server answers at {url}. Check THAWBOX_URL, and that this machine can reach the server."
