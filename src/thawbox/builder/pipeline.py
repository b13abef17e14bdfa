"""The build line: from a recipe to a frozen version, a phase after the other.

Everything is named by what went in, so a build that was cut off is simply run again: what is done already is found.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from thawbox.errors import BuildError
from thawbox.images import source
from thawbox.images.source import ImageConfig, ResolvedBase
from thawbox.node.cgroups import Limits
from thawbox.node.runtime import Runtime
from thawbox.settings import Settings
from thawbox.snapshots import layers
from thawbox.snapshots import manifest as versions
from thawbox.snapshots.freeze import freeze
from thawbox.snapshots.layers import Layer
from thawbox.snapshots.manifest import Version
from thawbox.templates.recipe import Recipe

from . import history
from .host_environment import step_environment
from .image import base_image_name, make_image
from .plan import PlannedStep, Setting, base_key, final_setting, first_link, make_plan
from .steps import Log, StepRoom, run_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What a COPY step copies, as the server has it."""

    digest: str
    open: Callable[[], Iterator[bytes]]
    """the plain tar"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One build."""

    organization_id: int
    template_id: int
    recipe: Recipe
    files: Mapping[int, Files]
    """by number of the COPY step"""
    log: Log
    progress: Callable[[int, str], Awaitable[None]]
    """``progress(percent, what is being done)``"""
    once: Callable[[str], AbstractAsyncContextManager[None]]
    """``once(key)``: a lock, so that builds which need the same thing make it once"""
    timings: dict[str, float] = field(default_factory=dict)
    """phase -> seconds"""


async def build(node: Runtime, settings: Settings, job: Job, pin: Callable[[str], None]) -> Version:
    """Make, or find, the version that the recipe describes.

    ``pin`` is told the names of layers, image and version as they are used, before they can be missed.

    Raises:
        BuildError: the build's owner should read why.
        ThawboxError: something of ours broke.
    """
    with _timed(job, "base"):
        config, base = await _base(node, settings, job)
    pin(base.id)
    plan = make_plan(job.recipe, config, {number: files.digest for number, files in job.files.items()})
    with _timed(job, "steps"):
        chain, link = await _steps(node, settings, job, plan, base, pin)
    setting = final_setting(job.recipe, config, plan)
    version = _version(job.recipe, setting, chain, link)
    pin(version.key)
    pin(version.image)
    async with job.once(version.key):
        found = versions.load(node.layout, version.key)
        if found and found.thaws_with(node.digest) and not job.recipe.skip_cache:
            job.log("INFO", "image and memory snapshot: CACHED")
            return found
        with _timed(job, "image"):
            await job.progress(85, "image")
            began = time.monotonic()
            async with job.once(version.image):
                image = await make_image(node, chain, version.image)
            job.log("INFO", f"image: {image.stat().st_size / 1e6:.0f} MB in {time.monotonic() - began:.1f} s")
        with _timed(job, "snapshot"):
            await job.progress(92, "snapshot")
            return await freeze(node, version, note=lambda text: job.log("INFO", f"snapshot: {text}"))


async def _base(node: Runtime, settings: Settings, job: Job) -> tuple[ImageConfig, Layer]:
    recipe = job.recipe
    await job.progress(2, f"FROM {recipe.base_image}")

    def log(text: str) -> None:
        job.log("INFO", text)

    resolved = await source.resolve(
        recipe.base_image, settings=settings, credentials=recipe.credentials, log=log
    )
    key = base_key(resolved, job.organization_id)
    async with job.once(key):
        layer = layers.find(node.layout, key)
        if layer is None:
            job.log("INFO", f"FROM {recipe.base_image}: {resolved.detail}")
            began = time.monotonic()
            layer = await _fetch_base(node, settings, recipe, resolved, key, log)
            job.log("INFO", f"base image ready in {time.monotonic() - began:.1f} s")
        else:
            job.log("INFO", f"CACHED FROM {recipe.base_image} ({resolved.detail})")
    about = layer.about["config"]
    config = ImageConfig(
        **{
            **about,
            "env": tuple((key, value) for key, value in about["env"]),
            "entrypoint": tuple(about["entrypoint"]),
            "cmd": tuple(about["cmd"]),
        }
    )
    return config, layer


async def _fetch_base(
    node: Runtime,
    settings: Settings,
    recipe: Recipe,
    resolved: ResolvedBase,
    key: str,
    log: Callable[[str], None],
) -> Layer:
    tmp = node.layout.tmp / f"base-{secrets.token_hex(8)}"
    (tmp / "fs").mkdir(parents=True)
    (tmp / "fs").chmod(0o755)
    try:
        config = await source.fetch(
            resolved, tmp / "fs", settings=settings, credentials=recipe.credentials, log=log
        )
        about: dict[str, Any] = {
            "title": f"FROM {recipe.base_image}",
            "source": resolved.source,
            "digest": resolved.digest,
            "config": asdict(config),
        }
        return layers.publish(node.layout, key, tmp, about)
    finally:
        await asyncio.to_thread(shutil.rmtree, tmp, ignore_errors=True)


async def _steps(
    node: Runtime,
    settings: Settings,
    job: Job,
    plan: list[PlannedStep],
    base: Layer,
    pin: Callable[[str], None],
) -> tuple[list[Layer], str]:
    recipe = job.recipe
    room = StepRoom(
        node=node,
        limits=Limits(cpu=recipe.cpu, memory_mb=recipe.memory_mb),
        disk_gb=recipe.disk_gb,
        host_env=step_environment(settings),
        timeout_s=settings.step_timeout_s,
        log_max_bytes=settings.step_log_max_bytes,
        log=job.log,
    )
    before = history.load(node.layout, job.template_id)
    chain, link = [base], first_link(base.id, job.organization_id)
    done: list[history.Entry] = []
    forced = recipe.skip_cache
    missed = False
    last = plan[-1].number if plan else 0
    for index, planned in enumerate(plan):
        title = f"[{planned.number}/{last}] {planned.title}"
        await job.progress(10 + 75 * index // len(plan), title[:120])
        key = planned.key(link)
        forced = forced or planned.step.skip_cache
        done.append(history.Entry(below=link, identity=planned.identity, content=planned.content))
        if not planned.makes_layer:
            job.log("INFO", title)
            link = key
            continue
        async with job.once(key):
            layer = None if forced else layers.find(node.layout, key)
            if layer is not None:
                job.log("INFO", f"CACHED {title}")
            else:
                why = history.why_missed(before, done, forced=forced, missed_before=missed)
                job.log("INFO", f"{title} ({why})")
                missed = True
                began = time.monotonic()
                layer = await _one_step(room, job, planned, chain, key)
                job.log("INFO", f"[{planned.number}/{last}] done in {time.monotonic() - began:.1f} s")
        pin(layer.id)
        chain.append(layer)
        link = layer.id
    history.save(node.layout, job.template_id, done)
    return chain, link


async def _one_step(room: StepRoom, job: Job, planned: PlannedStep, chain: list[Layer], key: str) -> Layer:
    files = job.files.get(planned.number)
    image = None
    if len(chain) == 1:
        # Files of a folder come through the gofer, those of an image straight from the page cache: worth 3 s of a
        # pip install of 17 s. Further up the stack an image would have to be made for this step alone.
        name = base_image_name(chain[0])
        async with job.once(name):
            image = await make_image(room.node, chain, name)
    try:
        return await run_step(room, planned, chain, key, image, files.open if files else None)
    except BuildError as error:
        where = f"step {planned.number} ({planned.title})"
        raise BuildError(f"{where} failed: {error.message}", step=planned.title) from error


def _version(recipe: Recipe, setting: Setting, chain: list[Layer], link: str) -> Version:
    files = layers.digest("image", *(layer.id for layer in chain))
    unkeyed = Version(
        key="",
        image=f"{files}.erofs",
        layers=tuple(layer.id for layer in chain),
        env=dict(setting.env),
        workdir=setting.workdir,
        user=setting.user,
        start_cmd=setting.start_cmd,
        ready=recipe.ready,
        warm=recipe.warm,
        kernel=recipe.kernel,
        cpu=recipe.cpu,
        memory_mb=recipe.memory_mb,
        disk_gb=recipe.disk_gb,
    )
    key = layers.digest("version", link, repr(unkeyed))
    return replace(unkeyed, key=key)


class _timed:
    """Adds the block's seconds to the job's timings."""

    def __init__(self, job: Job, phase: str) -> None:
        self._job, self._phase = job, phase

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._job.timings[self._phase] = round(time.monotonic() - self._began, 3)
