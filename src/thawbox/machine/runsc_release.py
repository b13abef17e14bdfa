"""Installing a released runsc: an archive or a bare program, from an address, with its checksum."""

from __future__ import annotations

import secrets
import shutil
import tarfile
from pathlib import Path

import httpx

from thawbox.errors import RuntimeFault
from thawbox.node.installed import file_digest
from thawbox.state import Layout


def download_runsc(url: str, sha512: str, layout: Layout, target: Path) -> None:
    """Put the runsc at ``url`` to ``target``; ``sha512`` is the checksum of what is downloaded, in hexadecimal.

    Raises:
        RuntimeFault: the checksum is missing or another one, or the download failed.
    """
    if len(sha512) != 128:
        raise RuntimeFault(
            "THAWBOX_RUNSC_SHA512 has to hold the 128 hex digits of the file at THAWBOX_RUNSC_URL"
        )
    half_made = layout.tmp / f"runsc-{secrets.token_hex(4)}"
    unpacked = half_made.with_suffix(".d")
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response:
            response.raise_for_status()
            with open(half_made, "wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
        if file_digest(half_made, "sha512") != sha512.lower():
            raise RuntimeFault(
                f"{url} does not have the checksum of THAWBOX_RUNSC_SHA512; nothing was installed"
            )
        if not tarfile.is_tarfile(half_made):
            half_made.chmod(0o755)
            half_made.rename(target)
            return
        # A release with its helper programs: they have to stay beside runsc.
        with tarfile.open(half_made) as archive:
            archive.extractall(unpacked, filter="data")
        found = next(unpacked.rglob("runsc"), None)
        if found is None:
            raise RuntimeFault(f"there is no runsc in {url}")
        release = layout.runtime / f"release-{sha512[:16]}"
        shutil.rmtree(release, ignore_errors=True)
        found.parent.rename(release)
        link = layout.tmp / f"link-{secrets.token_hex(4)}"
        link.symlink_to(release / "runsc")
        link.rename(target)
    except httpx.HTTPError as error:
        raise RuntimeFault(f"{url} cannot be downloaded: {error}") from error
    finally:
        half_made.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
