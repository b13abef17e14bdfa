"""``thaw ps``, ``thaw rm`` and ``thaw templates``."""

from __future__ import annotations

import json

from tests.support.command_line import Thaw
from tests.support.fake_api import TEMPLATE, Fake, add


def test_ps_lists_every_page(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.page_size = 2
    wanted = add(logged_in, 5)
    lines = thaw("ps").stdout.splitlines()
    assert lines[0].split()[:3] == ["ID", "TEMPLATE", "STATUS"]
    assert [line.split()[0] for line in lines[1:]] == wanted
    assert "never" in lines[1]
    assert [item["id"] for item in json.loads(thaw("ps", "--json").stdout)] == wanted


def test_ps_without_sandboxes_prints_nothing_for_programs(logged_in: Fake, thaw: Thaw) -> None:
    result = thaw("ps")
    assert result.stdout == ""
    assert "thaw run" in result.stderr
    assert json.loads(thaw("ps", "--json").stdout) == []


def test_rm_deletes_what_it_can_and_names_the_rest(logged_in: Fake, thaw: Thaw) -> None:
    add(logged_in, 2)
    result = thaw("rm", "id0", "gone", "id1")
    assert result.exit_code == 1
    assert result.stdout.split() == ["id0", "id1"]
    assert "gone: Sandbox not found." in result.stderr
    assert not logged_in.sandboxes


def test_rm_all_deletes_every_page(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.page_size = 2
    add(logged_in, 5)
    result = thaw("rm", "--all")
    assert result.exit_code == 0
    assert not logged_in.sandboxes


def test_rm_wants_ids_or_all(logged_in: Fake, thaw: Thaw) -> None:
    assert thaw("rm").exit_code == 2
    assert thaw("rm", "--all", "id0").exit_code == 2
    assert not logged_in.seen


def test_rm_treats_an_id_as_one_path_segment(logged_in: Fake, thaw: Thaw) -> None:
    assert thaw("rm", "../templates/7").exit_code == 1
    assert [request.path for request in logged_in.seen] == ["/v1/sandboxes/../templates/7"]


def test_templates_lists_and_shows(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.templates = [TEMPLATE]
    header, row = thaw("templates").stdout.splitlines()
    assert header.split()[:3] == ["NAME", "ID", "STATUS"]
    assert row.split()[:3] == ["demo", "7", "active"]
    assert json.loads(thaw("templates", "--json").stdout) == [TEMPLATE]
    assert "2 vCPU, 2048 MB, 10 GB" in thaw("templates", "demo").stdout
    assert json.loads(thaw("templates", "demo", "--json").stdout) == TEMPLATE
    assert thaw("templates", "nope").exit_code == 1


def test_templates_deletes_by_name(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.templates = [TEMPLATE]
    assert thaw("templates", "demo", "--delete").stdout == "demo deleted\n"
    assert not logged_in.templates
    assert thaw("templates", "--delete").exit_code == 2
