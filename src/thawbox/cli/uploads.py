"""Uploads the files of COPY steps, as the published clients do.

How they do it: docs/reference/compatibility/uploads.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thawbox.errors import ThawboxError
from thawbox.templates.pack import pack_context, read_ignore

from .client import Server
from .failure import Failure


def upload_copies(server: Server, body: dict[str, Any], context: Path) -> dict[str, Any]:
    """Upload the files of each COPY step in ``body``. Returns ``body`` with the hash of its archive in each COPY step.

    Steps that have a hash already, and steps that are malformed, are not changed: the server checks them.

    Raises:
        Failure: a source is missing in ``context`` or leads out of it, or the server refused an archive.
    """
    steps = body.get("steps")
    if not isinstance(steps, list):
        return body
    sent: set[str] = set()
    return {**body, "steps": [_with_files(server, step, context, sent) for step in steps]}


def _with_files(server: Server, step: Any, context: Path, sent: set[str]) -> Any:
    if not isinstance(step, dict) or str(step.get("type", "")).lower() != "copy":
        return step
    sources = sources_of(step)
    if not sources or step.get("filesHash") or step.get("files_hash"):
        return step
    try:
        packed = pack_context(context, sources, ignore=read_ignore(context))
    except ThawboxError as error:
        raise Failure(f"COPY {' '.join(sources)}: {error.message}") from error
    try:
        if packed.digest not in sent:
            link = server.call(
                "POST",
                "/v1/templates/files/upload-link",
                json={"files_hash": packed.digest, "content_length": packed.size_bytes},
            )
            if not link.get("present") and link.get("upload_url"):
                server.put_upload(str(link["upload_url"]), packed.path, packed.size_bytes)
            sent.add(packed.digest)
    finally:
        packed.path.unlink()
    return {**step, "filesHash": packed.digest}


def sources_of(step: dict[str, Any]) -> list[str]:
    """The sources of a COPY step, in either spelling; empty if the step has none or is malformed."""
    named = step.get("src")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return [source for source in named if isinstance(source, str)]
    arguments = step.get("args")
    if isinstance(arguments, list) and arguments and isinstance(arguments[0], str):
        return [source for source in arguments[0].split(",") if source]
    return []
