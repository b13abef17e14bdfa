"""A build, phase by phase: base image, steps, image, snapshot.

Layers, images and versions are named by a digest of what they are made from. So a build that was cut off simply runs
again, and finds what it had finished.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from thawbox.errors import BuildError
from thawbox.images import source
from thawbox.images.source import ImageConfig, ResolvedBase
from thawbox.node.cgroups import ResourceLimits
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
from .job import BuildJob
from .plan import PlannedStep, StepSetting, base_key, final_setting, first_chain_id, make_plan
from .steps import StepContext, run_step


async def build(node: Runtime, settings: Settings, job: BuildJob, pin: Callable[[str], None]) -> Version:
    """Make the version that the recipe describes, or find it if it exists.

    ``pin(name)`` is called before a layer, an image or a version is used, so that garbage collection keeps it.

    Returns the version with its snapshot; ``job.timings`` has the times.

    Raises:
        BuildError: the recipe does not work; the message is for the build's owner.
        ThawboxError: the server or the machine failed.
    """
    with job.timings.phase("base"):
        config, base = await _base(node, settings, job)
    pin(base.id)
    plan = make_plan(job.recipe, config, {number: files.digest for number, files in job.files.items()})
    with job.timings.phase("steps"):
        chain, chain_id = await _steps(node, settings, job, plan, base, pin)
    setting = final_setting(job.recipe, config, plan)
    version = _version(job.recipe, setting, chain, chain_id)
    pin(version.key)
    pin(version.image)
    async with job.once(version.key):
        found = versions.load(node.layout, version.key)
        if found and found.thaws_with(node.digest) and not job.recipe.skip_cache:
            job.log("INFO", "image and memory snapshot: CACHED")
            return found
        with job.timings.phase("image"):
            await job.progress(85, "image")
            began = time.monotonic()
            async with job.once(version.image):
                image = await make_image(node, chain, version.image)
            job.log("INFO", f"image: {image.stat().st_size / 1e6:.0f} MB in {time.monotonic() - began:.1f} s")
        with job.timings.phase("snapshot"):
            await job.progress(92, "snapshot")
            return await freeze(node, version, note=lambda text: job.log("INFO", f"snapshot: {text}"))


async def _base(node: Runtime, settings: Settings, job: BuildJob) -> tuple[ImageConfig, Layer]:
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
    job: BuildJob,
    plan: list[PlannedStep],
    base: Layer,
    pin: Callable[[str], None],
) -> tuple[list[Layer], str]:
    recipe = job.recipe
    context = StepContext(
        node=node,
        limits=ResourceLimits(cpu=recipe.cpu, memory_mb=recipe.memory_mb),
        disk_gb=recipe.disk_gb,
        host_env=step_environment(settings),
        timeout_s=settings.step_timeout_s,
        log_max_bytes=settings.step_log_max_bytes,
        log=job.log,
    )
    before = history.load(node.layout, job.template_id)
    chain, chain_id = [base], first_chain_id(base.id, job.organization_id)
    done: list[history.StepRecord] = []
    forced = recipe.skip_cache
    missed = False
    count = plan[-1].number if plan else 0
    for index, planned in enumerate(plan):
        position = f"[{planned.number}/{count}]"
        title = f"{position} {planned.title}"
        await job.progress(10 + 75 * index // len(plan), title[:120])
        key = planned.key(chain_id)
        forced = forced or planned.step.skip_cache
        done.append(history.StepRecord(below=chain_id, identity=planned.identity, content=planned.content))
        if not planned.makes_layer:
            job.log("INFO", title)
            chain_id = key
            continue
        async with job.once(key):
            layer = None if forced else layers.find(node.layout, key)
            if layer is not None:
                job.log("INFO", f"CACHED {title}")
                job.timings.add_step(title, None)
            else:
                why = history.why_missed(before, done, forced=forced, missed_before=missed)
                job.log("INFO", f"{title} ({why})")
                missed = True
                began = time.monotonic()
                layer = await _one_step(context, job, planned, chain, key)
                seconds = time.monotonic() - began
                job.log("INFO", f"{position} done in {seconds:.1f} s")
                job.timings.add_step(title, seconds)
        pin(layer.id)
        chain.append(layer)
        chain_id = layer.id
    history.save(node.layout, job.template_id, done)
    return chain, chain_id


async def _one_step(
    context: StepContext, job: BuildJob, planned: PlannedStep, chain: list[Layer], key: str
) -> Layer:
    files = job.files.get(planned.number)
    image = None
    if len(chain) == 1:
        # Files of a folder come through the gofer, those of an image straight from the page cache: worth 3 s of a
        # pip install of 17 s. Further up the stack an image would have to be made for this step alone.
        name = base_image_name(chain[0])
        async with job.once(name):
            image = await make_image(context.node, chain, name)
    try:
        return await run_step(context, planned, chain, key, image, files.open if files else None)
    except BuildError as error:
        where = f"step {planned.number} ({planned.title})"
        raise BuildError(f"{where} failed: {error.message}", step=planned.title) from error


def _version(recipe: Recipe, setting: StepSetting, chain: list[Layer], chain_id: str) -> Version:
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
    key = layers.digest("version", chain_id, repr(unkeyed))
    return replace(unkeyed, key=key)
