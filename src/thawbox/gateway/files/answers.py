"""What the routes for files answer. Sizes are bytes."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from thawbox.gateway.answers import Stamped, Traced


class ContentFields(TypedDict):
    """A file's content: text, or base64 if it is not UTF-8."""

    content: str
    encoding: NotRequired[Literal["base64"]]


class FileContent(ContentFields, Traced):
    """A whole file."""

    path: str
    size: int


class PathExists(Traced):
    """Whether there is something at a path."""

    exists: bool
    path: str
    is_directory: bool


class PathChanged(Stamped):
    """A path was made or removed."""

    success: bool
    message: str
    path: str


class FileStored(PathChanged):
    """A file was written."""

    size: int


class FolderItem(TypedDict):
    """An entry of a folder, each fact under all names that clients read. ``target`` is what a symlink holds."""

    name: str | None
    path: str
    size: int
    is_directory: bool
    is_dir: bool
    modified_time: str
    modified: str
    permissions: str
    type: str
    target: NotRequired[str]


class FolderListing(Traced):
    """The entries of a folder, by name."""

    files: list[FolderItem]
    path: str
    count: int
