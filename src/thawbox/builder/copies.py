"""The uploaded files that a recipe's COPY steps use.

A build's row notes the blobs of its files when the build is requested. So what is uploaded later under the same name
is for later builds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from thawbox.errors import BuildError, InvalidTemplate
from thawbox.settings import Settings
from thawbox.store import uploads
from thawbox.store.connection import Connection
from thawbox.store.enums import UploadKind
from thawbox.templates import archive
from thawbox.templates.recipe import CopyStep, Recipe

from .job import CopiedFiles


@dataclass(frozen=True, slots=True)
class Blobs:
    """What one COPY step uses: a single archive, or single files by name."""

    kind: UploadKind
    blobs: Mapping[str, str]
    """name (files_hash or relative path) -> blob"""


async def find_blobs(connection: Connection, organization_id: int, recipe: Recipe) -> dict[int, Blobs]:
    """The blobs of every COPY step, by step number.

    Raises:
        InvalidTemplate: a step's files were not uploaded.
    """
    found = {}
    for number, step in recipe.numbered():
        if isinstance(step, CopyStep):
            found[number] = await _blobs_of(connection, organization_id, number, step)
    return found


async def _blobs_of(connection: Connection, organization_id: int, number: int, step: CopyStep) -> Blobs:
    if step.files_hash is not None:
        row = await uploads.get(connection, organization_id, step.files_hash)
        if row is None or row.blob is None:
            raise InvalidTemplate(
                f"Step {number}: files for COPY step not uploaded (filesHash {step.files_hash}): "
                "ask POST /v1/templates/files/upload-link for a link, and PUT the archive there first"
            )
        return Blobs(UploadKind.ARCHIVE, {row.name: row.blob})
    blobs = {}
    for source in step.sources:
        row = await uploads.find(connection, organization_id, source)
        if row is None or row.blob is None:
            raise InvalidTemplate(
                f"Step {number}: files for COPY step not uploaded: src '{source[:200]}' is neither the path nor "
                "the file_id of an uploaded file"
            )
        blobs[row.name] = row.blob
    return Blobs(UploadKind.FILE, blobs)


async def check_sources(folder: Path, settings: Settings, recipe: Recipe, blobs: Mapping[int, Blobs]) -> None:
    """Refuse archives that do not fit their step.

    Raises:
        InvalidTemplate: an archive is empty, or holds names outside of the build context although the step's
            source is inside.
    """
    steps = dict(recipe.numbered())
    for number, files in blobs.items():
        step = steps[number]
        assert isinstance(step, CopyStep)
        if files.kind == UploadKind.ARCHIVE:
            (blob,) = files.blobs.values()
            report = await asyncio.to_thread(archive.check_archive, folder / blob, settings=settings)
            archive.check_step_sources(report, step)


async def open_blobs(folder: Path, settings: Settings, blobs: Mapping[int, Blobs]) -> dict[int, CopiedFiles]:
    """Digest and content of what each COPY step copies.

    Raises:
        BuildError: a blob is gone.
    """
    return {
        number: await asyncio.to_thread(_files, folder, settings, files) for number, files in blobs.items()
    }


def _files(folder: Path, settings: Settings, files: Blobs) -> CopiedFiles:
    paths = [(name, folder / blob) for name, blob in files.blobs.items()]
    for name, path in paths:
        if not path.exists():
            raise BuildError(f"the uploaded file {name} is gone: upload it again")
    if files.kind == UploadKind.ARCHIVE:
        ((_, path),) = paths
        report = archive.check_archive(path, settings=settings)
        return CopiedFiles(digest=report.digest, open=partial(archive.open_plain_tar, path, report))
    return CopiedFiles(digest=archive.files_digest(paths), open=partial(archive.single_file_tar, paths))


def to_json(blobs: Mapping[int, Blobs]) -> dict[str, Any]:
    """For the build's row."""
    return {str(number): {"kind": files.kind, "blobs": dict(files.blobs)} for number, files in blobs.items()}


def from_json(raw: Mapping[str, Any]) -> dict[int, Blobs]:
    """What ``to_json`` made."""
    return {int(number): Blobs(UploadKind(files["kind"]), files["blobs"]) for number, files in raw.items()}
