"""What a sandbox can do, told truly: clients look before they ask."""

from __future__ import annotations

from collections import OrderedDict

from thawbox import guest
from thawbox.gateway.run import languages
from thawbox.gateway.target import Target
from thawbox.guest.kernel import kernel_status

from .answers import Features

KEPT = 1000
"""Snapshots whose languages are remembered."""
_languages: OrderedDict[str, list[str]] = OrderedDict()
"""By snapshot: a template's programs rarely change, and clients call /health often."""


async def features_of(target: Target) -> Features:
    """The object ``features`` of answers.

    Raises:
        GuestError, GuestFault: the agent refuses, or does not answer.
    """
    found = await languages_of(target)
    return {
        "code_execution": bool(found),
        "file_operations": True,
        "terminal_access": True,
        "websocket_streaming": True,
        "rich_output": "python" in found,
        "background_jobs": True,
        "ipython_kernel": await kernel_status(target.endpoint, user=target.defaults.user) is not None,
        "system_metrics": True,
        "desktop": False,
        "languages": found,
        "commands": True,
    }


async def languages_of(target: Target) -> list[str]:
    """The languages whose interpreters its template has in PATH; asked of the agent once per snapshot.

    Raises:
        GuestError, GuestFault: see ``features_of``.
    """
    key = target.sandbox.snapshot_key
    if key not in _languages:
        system = await guest.describe(target.endpoint, languages.CANDIDATE_PROGRAMS)
        _languages[key] = languages.present(system.programs)
        while len(_languages) > KEPT:
            _languages.popitem(last=False)
    return _languages[key]
