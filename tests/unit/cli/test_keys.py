"""``thaw keys``, and the key that ``thaw serve`` leaves for its own machine."""

from __future__ import annotations

import asyncio
import json
import re
import stat

from tests.support.command_line import Thaw
from thawbox.cli.keys import key_works
from thawbox.cli.serve import ensure_local_key
from thawbox.settings import load


def works(key: str) -> bool:
    return asyncio.run(key_works(load(), key))


def test_create_prints_only_a_key_that_works(thaw: Thaw) -> None:
    result = thaw("keys", "create")
    assert re.fullmatch(r"hopx_live_[A-Za-z0-9]{12}\.[A-Za-z0-9]{43}\n", result.output)
    assert works(result.output.strip())


def test_list_shows_owners_and_no_secrets(thaw: Thaw) -> None:
    keys = [thaw("keys", "create").output, thaw("keys", "create", "--org", "research").output]
    listed = json.loads(thaw("keys", "list", "--json").stdout)
    assert [entry["organization"] for entry in listed] == ["default", "research"]
    table = thaw("keys", "list").stdout
    for key in keys:
        key_id, _, secret = key.strip().removeprefix("hopx_live_").partition(".")
        assert key_id in table
        assert secret not in table + json.dumps(listed)


def test_revoked_is_useless_and_cannot_be_revoked_again(thaw: Thaw) -> None:
    key = thaw("keys", "create").output.strip()
    key_id = key.removeprefix("hopx_live_").partition(".")[0]
    assert thaw("keys", "revoke", key_id).exit_code == 0
    assert not works(key)
    again = thaw("keys", "revoke", key_id)
    assert again.exit_code == 1
    assert key_id in again.stderr


def test_an_organisation_needs_a_name(thaw: Thaw) -> None:
    assert thaw("keys", "create", "--org", "  ").exit_code == 2
    assert thaw("keys", "create", "--org", "a\nb").exit_code == 2


def test_the_local_key_is_private_and_stays_while_it_works() -> None:
    settings = load()
    path = ensure_local_key(settings)
    key = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert works(key.strip())
    assert ensure_local_key(settings).read_text() == key


def test_a_local_key_that_was_revoked_is_replaced(thaw: Thaw) -> None:
    settings = load()
    path = ensure_local_key(settings)
    key = path.read_text().strip()
    thaw("keys", "revoke", key.removeprefix("hopx_live_").partition(".")[0])
    assert ensure_local_key(settings).read_text().strip() != key
    assert works(path.read_text().strip())
