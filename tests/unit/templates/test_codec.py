"""Recipes survive JSON; cache keys see what a step does and nothing else."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.templates.codec import (
    canonical_step,
    credentials_from_json,
    credentials_to_json,
    recipe_from_json,
    recipe_to_json,
)
from thawbox.templates.recipe import (
    AptStep,
    CmdStep,
    CopyStep,
    EnvStep,
    ReadyCheck,
    Recipe,
    RegistryCredentials,
    RunStep,
    UserStep,
    WorkdirStep,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
STEPS = st.one_of(
    st.builds(RunStep, command=TEXT, skip_cache=st.booleans()),
    st.builds(AptStep, packages=st.lists(TEXT).map(tuple), skip_cache=st.booleans()),
    st.builds(
        CopyStep,
        sources=st.lists(TEXT).map(tuple),
        dest=TEXT,
        files_hash=st.none() | TEXT,
        owner=st.none() | TEXT,
        permissions=st.none() | st.integers(0, 0o7777),
        skip_cache=st.booleans(),
    ),
    st.builds(EnvStep, variables=st.lists(st.tuples(TEXT, TEXT)).map(tuple), skip_cache=st.booleans()),
    st.builds(WorkdirStep, path=TEXT, skip_cache=st.booleans()),
    st.builds(UserStep, user=TEXT, skip_cache=st.booleans()),
    st.builds(CmdStep, command=TEXT, skip_cache=st.booleans()),
)
CREDENTIALS = st.builds(
    RegistryCredentials,
    kind=TEXT,
    username=st.none() | TEXT,
    password=st.none() | TEXT,
    token=st.none() | TEXT,
)
RECIPES = st.builds(
    Recipe,
    name=TEXT,
    base_image=TEXT,
    steps=st.lists(STEPS, max_size=4).map(tuple),
    cpu=st.integers(),
    warm=st.lists(TEXT).map(tuple),
    kernel=st.booleans(),
    memory_mb=st.integers(),
    disk_gb=st.integers(),
    start_cmd=st.none() | TEXT,
    ready=st.none() | st.builds(ReadyCheck),
    skip_cache=st.booleans(),
    update=st.booleans(),
    credentials=st.none() | CREDENTIALS,
)


@given(RECIPES)
def test_round_trip(recipe: Recipe) -> None:
    stored = json.loads(json.dumps(recipe_to_json(recipe)))
    assert recipe_from_json(stored) == dataclasses.replace(recipe, credentials=None)


@given(CREDENTIALS)
def test_credentials_round_trip(credentials: RegistryCredentials) -> None:
    assert credentials_from_json(json.loads(json.dumps(credentials_to_json(credentials)))) == credentials


def test_credentials_are_not_in_the_recipe() -> None:
    secret = RegistryCredentials(kind="basic", username="user-x", password="hunter2", token="tok-x")
    recipe = Recipe(name="t", base_image="x", credentials=secret)
    stored = json.dumps(recipe_to_json(recipe))
    assert not any(word in stored + repr(recipe) for word in ("hunter2", "tok-x", "user-x"))


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 2"):
        recipe_from_json({**recipe_to_json(Recipe(name="t", base_image="x")), "format": 2})


def test_canonical_step_ignores_cache_wish_and_upload_name() -> None:
    step = CopyStep(sources=("a",), dest="/b", files_hash="1" * 64, skip_cache=True)
    assert canonical_step(step) == canonical_step(CopyStep(sources=("a",), dest="/b"))
    assert (
        canonical_step(step) == '{"dest":"/b","owner":null,"permissions":null,"sources":["a"],"type":"copy"}'
    )


@given(STEPS, STEPS)
def test_canonical_step_tells_steps_apart(one: RunStep, other: RunStep) -> None:
    def bare(step: RunStep) -> RunStep:
        step = dataclasses.replace(step, skip_cache=False)
        return dataclasses.replace(step, files_hash=None) if isinstance(step, CopyStep) else step

    assert (canonical_step(one) == canonical_step(other)) == (bare(one) == bare(other))
