"""What both HTTP planes work with: one value, made by the server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from thawbox.settings import Settings
from thawbox.store.database import Database

from .contract import Sandboxes
from .tokens import TokenSigner


@dataclass(frozen=True)
class ServingContext:
    """The services behind the gateway. The control plane's context has some more."""

    settings: Settings
    database: Database
    sandboxes: Sandboxes
    tokens: TokenSigner
    started_at: float = field(default_factory=time.time, kw_only=True)
    """Seconds since 1970."""
