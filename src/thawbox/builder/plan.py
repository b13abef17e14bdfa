"""The plan of a build: each step's key, and the environment, folder and user that it runs with.

key(step) = digest(chain id below, canonical step, content of the copied files). The chain id stands for all steps
before; those that set environment, folder and user are among them, so these need not be part of the key as well.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from thawbox.images.source import ImageConfig, ResolvedBase
from thawbox.snapshots.layers import digest
from thawbox.templates.codec import canonical_step
from thawbox.templates.recipe import (
    AnyStep,
    AptStep,
    CmdStep,
    CopyStep,
    EnvStep,
    Recipe,
    RunStep,
    UserStep,
    WorkdirStep,
)

FORMAT = "1"
"""Goes into every key; another value makes every cached step a miss."""

_VARIABLE = re.compile(r"\\\$|\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class StepSetting:
    """What a step runs with, and in the end what sandboxes start with."""

    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str | None = None
    start_cmd: str | None = None

    def after(self, step: AnyStep) -> StepSetting:
        """The setting that ``step`` leaves behind."""
        match step:
            case EnvStep():
                env = dict(self.env)
                for key, value in step.variables:
                    env[key] = expand(value, self.env)
                return replace(self, env=env)
            case WorkdirStep():
                path = posixpath.normpath(posixpath.join(self.workdir, expand(step.path, self.env)))
                return replace(self, workdir="/" + path.lstrip("/"))
            case UserStep():
                return replace(self, user=step.user)
            case CmdStep():
                return replace(self, start_cmd=step.command)
            case _:
                return self


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of the recipe."""

    number: int
    """1-based, as the user counts"""
    step: AnyStep
    setting: StepSetting
    """before the step"""
    content: str
    """digest of the copied files; empty for other steps"""

    @property
    def makes_layer(self) -> bool:
        """Whether files change; other steps change the setting alone."""
        return isinstance(self.step, RunStep | AptStep | CopyStep)

    @property
    def identity(self) -> str:
        """The step's own part of its key."""
        return digest(FORMAT, canonical_step(self.step), self.content)

    def key(self, below: str) -> str:
        """The step's key on top of the chain ``below``."""
        return digest(below, self.identity)

    @property
    def title(self) -> str:
        """The step as its author would recognise it, on one line."""
        match self.step:
            case RunStep(command=command):
                text = f"RUN {command}"
            case AptStep(packages=packages):
                text = f"APT {' '.join(packages)}"
            case CopyStep(sources=sources, dest=dest):
                text = f"COPY {' '.join(sources)} {dest}"
            case EnvStep(variables=variables):
                text = f"ENV {' '.join(key for key, _ in variables)}"
            case WorkdirStep(path=path):
                text = f"WORKDIR {path}"
            case UserStep(user=user):
                text = f"USER {user}"
            case CmdStep(command=command):
                text = f"CMD {command}"
        text = " ".join(text.split())
        return text if len(text) <= 120 else text[:119] + "…"


def make_plan(recipe: Recipe, config: ImageConfig, contents: Mapping[int, str]) -> list[PlannedStep]:
    """The recipe's steps with their settings. ``contents`` maps numbers of COPY steps to digests of their files."""
    setting = StepSetting(env=dict(config.env), workdir=config.workdir or "/", user=config.user)
    planned = []
    for number, step in recipe.numbered():
        planned.append(PlannedStep(number, step, setting, contents.get(number, "")))
        setting = setting.after(step)
    return planned


def final_setting(recipe: Recipe, config: ImageConfig, plan: Sequence[PlannedStep]) -> StepSetting:
    """What sandboxes start with."""
    if plan:
        setting = plan[-1].setting.after(plan[-1].step)
    else:
        setting = StepSetting(env=dict(config.env), workdir=config.workdir or "/", user=config.user)
    return replace(setting, start_cmd=recipe.start_cmd or setting.start_cmd)


def base_key(base: ResolvedBase, organization_id: int) -> str:
    """The key of the base image's layer. All organisations share it, unless it took credentials to get the image."""
    return digest(FORMAT, "base", base.source, base.digest, str(organization_id) if base.private else "")


def first_chain_id(base_layer: str, organization_id: int) -> str:
    """The chain id below an organisation's first step; no two organisations share one, so none sees another's cache."""
    return digest(FORMAT, base_layer, f"organization {organization_id}")


def expand(value: str, env: Mapping[str, str]) -> str:
    r"""Replace ``$NAME`` and ``${NAME}`` by what they are in ``env``; ``\$`` is a dollar.

    Names that are not in ``env`` stay as written: a password with a dollar in it is more likely than a variable that
    is empty on purpose.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not name:
            return "$"
        return env.get(name, match[0])

    return _VARIABLE.sub(value_of, value)
