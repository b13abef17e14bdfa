"""``/env``: the variables that every program of a sandbox gets.

Why 200, why always merged, why nothing is masked: docs/reference/compatibility/gateway.md#environment.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from pydantic import field_validator
from starlette.responses import JSONResponse

from thawbox import guest
from thawbox.errors import GuestFault, VariableNotSet
from thawbox.gateway.answers import answers
from thawbox.gateway.run.execution import agent_silent, agent_unavailable, refusal
from thawbox.gateway.target import Target, parsed_request, target_of
from thawbox.guest import GuestError
from thawbox.guest.environment import Action
from thawbox.util.timestamps import rfc3339
from thawbox.web import openapi
from thawbox.web.bodies import Body, usable_environment
from thawbox.web.context import request_id

from .answers import EnvironmentAnswer

router = APIRouter(tags=["environment"])


class Variables(Body):
    """Environment variables. ``merge`` and ``timestamp``, which some clients send, change nothing."""

    env_vars: dict[str, str]

    @field_validator("env_vars")
    @classmethod
    def usable(cls, env: dict[str, str]) -> dict[str, str]:
        """Names and values that an environment can hold."""
        usable_environment(env)
        return env


@router.get("/env", responses=answers(EnvironmentAnswer))
async def get_env(request: Request) -> JSONResponse:
    """The whole environment: what programs need, the template's, and the sandbox's own. Nothing is masked."""
    target = await target_of(request)
    try:
        return _answer(await guest.read_environment(target.endpoint, user=target.defaults.user))
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    except GuestError as error:
        raise refusal(error) from error


@router.put("/env", openapi_extra=openapi.body(Variables), responses=answers(EnvironmentAnswer))
async def replace_env(request: Request) -> JSONResponse:
    """Replace the sandbox's own variables. What programs need, and the template's, stays below."""
    target, body = await parsed_request(request, Variables)
    return await _change(target, "replace", body.env_vars)


@router.patch("/env", openapi_extra=openapi.body(Variables), responses=answers(EnvironmentAnswer))
async def merge_env(request: Request) -> JSONResponse:
    """Set some variables."""
    target, body = await parsed_request(request, Variables)
    return await _change(target, "merge", body.env_vars)


@router.delete("/env", responses=answers(EnvironmentAnswer))
async def clear_env(request: Request) -> JSONResponse:
    """Remove the sandbox's own variables."""
    return await _change(await target_of(request), "replace", {})


@router.delete("/env/{key}", responses=answers(EnvironmentAnswer))
async def remove_variable(request: Request, key: str) -> JSONResponse:
    """Remove one of the sandbox's own variables."""
    return await _change(await target_of(request), "remove", {}, key)


async def _change(
    target: Target, action: Action, variables: dict[str, str], name: str | None = None
) -> JSONResponse:
    try:
        env = await guest.change_env(target.endpoint, action, variables, name=name, user=target.defaults.user)
    except GuestFault as error:
        raise agent_silent(target, error) from error
    except GuestError as error:
        if error.code == "NOT_SET":
            raise VariableNotSet(f"The sandbox has no variable {(name or '')[:100]!r} of its own.") from error
        raise refusal(error) from error
    return _answer(env)


def _answer(env: dict[str, str]) -> JSONResponse:
    answer: EnvironmentAnswer = {
        "env_vars": env,
        "count": len(env),
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)
