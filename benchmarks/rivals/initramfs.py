"""The smallest root for a kernel: busybox and one script, as a cpio archive (format ``newc``)."""

from __future__ import annotations

_DIRECTORY, _FILE, _LINK, _DEVICE = 0o040755, 0o100755, 0o120777, 0o020600
_TOOLS = ("sh", "mount", "true", "echo")


def pack(busybox: bytes, script: bytes) -> bytes:
    """The archive; ``script`` becomes /init."""
    parts = [_entry(name, _DIRECTORY) for name in ("bin", "dev")]
    parts.append(_entry("dev/console", _DEVICE, device=(5, 1)))
    parts.append(_entry("bin/busybox", _FILE, busybox))
    parts += [_entry(f"bin/{tool}", _LINK, b"busybox") for tool in _TOOLS]
    parts.append(_entry("init", _FILE, script))
    parts.append(_entry("TRAILER!!!", 0))
    return b"".join(parts)


def _entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
