"""Steps, their settings and their keys."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.builder.plan import (
    PlannedStep,
    StepSetting,
    base_key,
    expand,
    final_setting,
    first_chain_id,
    make_plan,
)
from thawbox.images.source import ImageConfig, ResolvedBase
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
from thawbox.templates.steps import STEP_TYPES

CONFIG = ImageConfig(env=(("PATH", "/bin"),), workdir="/srv", user="app")
ENV = {"HOME": "/root", "A": "1", "AB": "2", "EMPTY": ""}


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("$A", "1"),
        ("${A}B", "1B"),
        ("$AB", "2"),
        ("x$HOME/y:${HOME}", "x/root/y:/root"),
        ("[$EMPTY]", "[]"),
        (r"\$A costs \$5", "$A costs $5"),
        ("$UNKNOWN ${UNKNOWN}", "$UNKNOWN ${UNKNOWN}"),
        ("pa$$word$", "pa$$word$"),
        ("${A", "${A"),
        ("${}", "${}"),
    ],
)
def test_expand(value: str, expanded: str) -> None:
    assert expand(value, ENV) == expanded


@given(st.text(st.characters(exclude_characters="$")))
def test_text_without_a_dollar_stays_as_it_is(value: str) -> None:
    assert expand(value, ENV) == value


@given(st.text())
def test_what_is_escaped_is_not_expanded(value: str) -> None:
    plain = value.replace("\\", "")
    assert expand(plain.replace("$", r"\$"), ENV) == plain


def test_expansion_is_not_repeated() -> None:
    assert expand("$A", {"A": "$B", "B": "2"}) == "$B"


@pytest.mark.parametrize(
    ("step", "after"),
    [
        (EnvStep(variables=(("A", "2"), ("B", "$A"))), StepSetting({"A": "2", "B": "1"}, "/w", "u", "c")),
        (WorkdirStep(path="sub/../$A"), StepSetting({"A": "1"}, "/w/1", "u", "c")),
        (WorkdirStep(path="//x"), StepSetting({"A": "1"}, "/x", "u", "c")),
        (UserStep(user="root"), StepSetting({"A": "1"}, "/w", "root", "c")),
        (CmdStep(command="serve"), StepSetting({"A": "1"}, "/w", "u", "serve")),
        (RunStep(command="cd /"), StepSetting({"A": "1"}, "/w", "u", "c")),
    ],
)
def test_what_a_step_leaves_to_the_next(step: AnyStep, after: StepSetting) -> None:
    before = StepSetting({"A": "1"}, "/w", "u", "c")
    assert before.after(step) == after
    assert before == StepSetting({"A": "1"}, "/w", "u", "c")


def test_each_step_runs_with_what_the_ones_before_it_set() -> None:
    recipe = Recipe(
        name="t",
        base_image="debian",
        first_number=2,
        steps=(
            RunStep(command="one"),
            WorkdirStep(path="app"),
            UserStep(user="web"),
            CopyStep(sources=("a",), dest="."),
            CmdStep(command="serve"),
        ),
    )
    plan = make_plan(recipe, CONFIG, {5: "digest of a"})
    assert [step.number for step in plan] == [2, 3, 4, 5, 6]
    assert plan[0].setting == StepSetting({"PATH": "/bin"}, "/srv", "app")
    assert plan[3].setting == StepSetting({"PATH": "/bin"}, "/srv/app", "web")
    assert [step.content for step in plan] == ["", "", "", "digest of a", ""]
    assert [step.makes_layer for step in plan] == [True, False, False, True, False]
    assert final_setting(recipe, CONFIG, plan) == StepSetting({"PATH": "/bin"}, "/srv/app", "web", "serve")
    own = replace(recipe, start_cmd="of the recipe")
    assert final_setting(own, CONFIG, plan).start_cmd == "of the recipe"


def test_a_recipe_without_steps_starts_as_its_base_image() -> None:
    recipe = Recipe(name="t", base_image="debian")
    assert make_plan(recipe, ImageConfig(), {}) == []
    assert final_setting(recipe, ImageConfig(workdir=None), []).workdir == "/"
    assert final_setting(recipe, CONFIG, []) == StepSetting({"PATH": "/bin"}, "/srv", "app")


def planned(step: AnyStep, *, content: str = "", number: int = 1) -> PlannedStep:
    return PlannedStep(number, step, StepSetting(), content)


def test_a_key_follows_the_chain_the_step_and_the_copied_files() -> None:
    step = RunStep(command="make")
    keys = {
        planned(step).key("below"),
        planned(step).key("other chain"),
        planned(RunStep(command="make all")).key("below"),
        planned(step, content="files").key("below"),
        planned(AptStep(packages=("make",))).key("below"),
    }
    assert len(keys) == 5


def test_a_key_does_not_follow_the_number_or_the_cache_switch() -> None:
    key = planned(RunStep(command="make")).key("below")
    assert planned(RunStep(command="make"), number=7).key("below") == key
    assert planned(RunStep(command="make", skip_cache=True)).key("below") == key


def test_chains_of_organisations_are_apart() -> None:
    assert first_chain_id("base", 1) != first_chain_id("base", 2)
    assert first_chain_id("base", 1) != first_chain_id("other", 1)


def test_only_a_private_base_image_is_an_organisations_own() -> None:
    public = ResolvedBase("debian", "sha256:1", "registry", False, "")
    assert base_key(public, 1) == base_key(public, 2)
    private = replace(public, private=True)
    assert len({base_key(private, 1), base_key(private, 2), base_key(public, 1)}) == 3
    assert base_key(replace(public, digest="sha256:2"), 1) != base_key(public, 1)
    assert base_key(replace(public, source="bootstrap"), 1) != base_key(public, 1)


TITLES: list[tuple[AnyStep, str]] = [
    (RunStep(command="make\n  all"), "RUN make all"),
    (AptStep(packages=("git", "make")), "APT git make"),
    (CopyStep(sources=("a", "b"), dest="/x"), "COPY a b /x"),
    (EnvStep(variables=(("KEY", "secret"),)), "ENV KEY"),
    (WorkdirStep(path="/x"), "WORKDIR /x"),
    (UserStep(user="web"), "USER web"),
    (CmdStep(command="serve"), "CMD serve"),
    (RunStep(command="x" * 200), "RUN " + "x" * 115 + "…"),
]


@pytest.mark.parametrize(("step", "title"), TITLES)
def test_titles(step: AnyStep, title: str) -> None:
    assert planned(step).title == title


def test_every_step_type_has_a_title_and_an_identity_of_its_own() -> None:
    """mypy does not notice a type that the plan or the codec lacks: a build of it would fail."""
    steps = {type(step): step for step, _ in TITLES}
    assert set(steps) == set(get_args(AnyStep))
    assert {json.loads(canonical_step(step))["type"] for step in steps.values()} == set(STEP_TYPES) - {"from"}
