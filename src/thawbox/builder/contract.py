"""The interface of the build service for the HTTP plane, with what holds while builds start and end."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from thawbox.store.builds import BuildRow
from thawbox.templates.recipe import Recipe


class Builder(Protocol):
    """Builds templates. All methods may be called at any time and side by side."""

    async def submit(self, organization_id: int, recipe: Recipe) -> int:
        """Put a build into the queue; returns the template's id.

        When it returns, the template's row (``building``) and the attempt's row (``queued`` or later) are
        stored. If it raises, neither is.

        Raises:
            AliasExists: the organisation has a template of this name whose build did not fail, and
                ``recipe.update`` is false.
            RateLimited: the quota of an hour or a day is used up; ``retry_after``: seconds until the next is allowed.
            InvalidTemplate: files of a COPY step were not uploaded.
        """
        ...

    async def cancel(self, template_id: int) -> None:
        """End all builds of that template that wait or run, as ``failed``; returns when they have ended.

        Without one it does nothing. A build that ends by itself meanwhile may end as ``active``.
        """
        ...

    async def forget(self, template_id: int) -> None:
        """Remove the files that only this template needed. Its row is deleted already."""
        ...

    def log_path(self, build: BuildRow) -> Path:
        """The file of this attempt's log (format: ``builder.log``); it may not exist yet, or not any more."""
        ...
