"""Speaking to the server: where it is, the key, and its errors as sentences."""

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
"""The file in the state folder that holds the key which ``thaw serve`` made for this machine's own use."""

_TIMEOUT = httpx.Timeout(60, connect=5)
# Creating a sandbox whose snapshot cannot be used means a cold boot, start command and ready check included.
_SLOW_TIMEOUT = httpx.Timeout(600, connect=5)


def server_url() -> str:
    """``THAWBOX_URL``; without it, loopback and the port that the settings name."""
    url = os.environ.get("THAWBOX_URL") or f"http://127.0.0.1:{load().port or 7070}"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Failure(f"THAWBOX_URL = {url!r} is no URL: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Failure(f"THAWBOX_URL = {url!r} is no URL; it should look like http://127.0.0.1:7070.")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether ``url`` means this very machine."""
    host = httpx.URL(url).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def api_key(url: str) -> str | None:
    """``THAWBOX_API_KEY``; without it, for a server on this machine, the key in its state folder.

    Raises:
        Failure: the file is there, but not for us to read.
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
            f"{file} holds this server's local key but only root may read it. "
            "Run as root, or set THAWBOX_API_KEY to a key made with 'sudo thaw keys create'."
        ) from error


class Unreachable(Failure):
    """No server answers."""


class Refused(Failure):
    """The server said no. ``status`` is HTTP's, ``code`` the envelope's."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Server:
    """The control plane, as a logged-in client."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http = http
        self.url = url

    def call(self, method: str, path: str, **extra: Any) -> dict[str, Any]:
        """One request; its JSON object.

        Raises:
            Refused: the server answered with an error.
            Unreachable: no server answers.
            Failure: what answers is no Thawbox.
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
            raise Unreachable(f"{self.url} broke the connection off: {error}. Try again.") from error
        return answer(response)

    def create_sandbox(self, body: dict[str, Any]) -> dict[str, Any]:
        """POST /v1/sandboxes, with the patience that a cold boot needs."""
        return self.call("POST", "/v1/sandboxes", json=body, timeout=_SLOW_TIMEOUT)

    def put_upload(self, url: str, archive: Path, size: int) -> None:
        """Send an archive to the signed address that upload-link gave. No key goes along."""
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
    """The server that the environment names."""
    url = server_url()
    key = api_key(url)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # A proxy for the outside world must not stand between two programs on one machine.
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=not is_loopback(url)
    ) as http:
        yield Server(http, url)


@contextmanager
def connect_sandbox(sandbox: dict[str, Any]) -> Iterator[httpx.Client]:
    """The sandbox's own address, with the token that came with its creation."""
    url = str(sandbox["public_host"])
    headers = {"Authorization": f"Bearer {sandbox['auth_token']}"}
    with httpx.Client(
        base_url=url, headers=headers, timeout=_TIMEOUT, trust_env=not is_loopback(url)
    ) as http:
        yield http


def answer(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a good answer.

    Raises:
        Refused: an error status; the message is the envelope's.
        Failure: no JSON object.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success and isinstance(body, dict):
        return body
    if not isinstance(body, dict):
        raise Failure(
            f"{response.request.url} answered {response.status_code} and no JSON. "
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
    raise Refused(message.rstrip(".") + ".", status=response.status_code, code=str(body.get("code") or ""))


def not_running(url: str) -> str:
    """What to say when nobody listens at ``url``."""
    if is_loopback(url):
        return f"No server answers at {url}. Start one with 'sudo thaw serve', or set THAWBOX_URL."
    return f"No server answers at {url}. Is THAWBOX_URL right, and the server reachable from here?"
