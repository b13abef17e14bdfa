"""What the agent takes and answers may change with a new version of the protocol only: old agents live in snapshots."""

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import thawbox.agent
from tests.support.protocol_record import COMMAND, FRAMES, RECORDS, described, table_row
from thawbox.agent import protocol
from thawbox.guest.operations import OPERATIONS, operations, unknown

AGENT = Path(thawbox.agent.__file__).parent
PAGE = Path(__file__).parents[3] / "docs/reference/agent-protocol.md"
VERSIONS = range(protocol.VERSION + 1)
GUIDE = "docs/contributing/add-an-agent-operation.md"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_what_was_recorded_for_it(version: int) -> None:
    record = RECORDS / f"protocol_v{version}.json"
    assert record.exists(), f"version {version} has no record: {COMMAND} writes it, see {GUIDE}"
    assert described(version) == json.loads(record.read_text()), (
        f"version {version} of the protocol is not what was recorded. If a release has it (CHANGELOG.md), make a new "
        f"version, as {GUIDE} says; if not, write its record anew: {COMMAND}"
    )


def test_every_version_has_a_record_and_no_two_are_the_same() -> None:
    names = sorted(path.name for path in RECORDS.glob("protocol_v*.json"))
    assert names == sorted(f"protocol_v{version}.json" for version in VERSIONS), (
        f"one record for each version up to VERSION in agent/protocol.py: {COMMAND} writes that of VERSION"
    )
    records = [(RECORDS / name).read_text() for name in names]
    assert len(set(records)) == len(records)


def test_rows_of_one_operation_do_not_overlap() -> None:
    for version in VERSIONS:
        valid = [
            row.name
            for row in OPERATIONS
            if row.since <= version and (row.until is None or version <= row.until)
        ]
        assert sorted(valid) == sorted(operations(version))
    above = [f"{row.name} (since={row.since})" for row in OPERATIONS if row.since > protocol.VERSION]
    assert not above, (
        f"{', '.join(above)}: above version {protocol.VERSION}. Raise VERSION in agent/protocol.py, see {GUIDE}"
    )
    assert all(row.since >= 0 for row in OPERATIONS)
    assert all(row.until is None or row.since <= row.until < protocol.VERSION for row in OPERATIONS)


def test_every_frame_type_is_recorded() -> None:
    numbers = {
        name: value
        for name, value in vars(protocol).items()
        if name.isupper() and isinstance(value, int) and value in protocol.TO_GUEST | protocol.FROM_GUEST
    }
    # Other constants of the module may have the value of a frame type.
    assert {name: value for name, value in numbers.items() if name not in ("HEADER", "VERSION")} == FRAMES
    assert set(FRAMES.values()) == protocol.TO_GUEST | protocol.FROM_GUEST
    assert {frame for row in operations().values() for frame in row.sends} | {"ERROR"} | {
        frame for row in operations().values() for frame in row.answers
    } == set(FRAMES)


def test_the_agent_serves_the_operations_of_its_version() -> None:
    lacking = set(served()) - set(operations())
    assert not lacking, (
        f"{', '.join(sorted(lacking))}: served by agent/main.py, but not in version {protocol.VERSION}: add a row to "
        f"guest/operations.py:OPERATIONS, see {GUIDE}; if it is there, raise VERSION in agent/protocol.py"
    )
    unserved = set(operations()) - set(served())
    assert not unserved, (
        f"{', '.join(sorted(unserved))}: in guest/operations.py:OPERATIONS, but agent/main.py:_operate has no such case"
    )


@pytest.mark.parametrize("name", operations())
def test_the_agent_reads_the_fields_that_an_operation_takes(name: str) -> None:
    read = served()[name]
    takes = operations()[name].takes
    assert set(read) == set(takes)
    for field, kind in read.items():
        assert kind in (None, takes[field].rstrip("?")) or takes[field] == "any", field


@pytest.mark.parametrize("version", VERSIONS)
def test_the_page_describes_every_operation(version: int) -> None:
    page = PAGE.read_text()
    assert f"## Version {version}\n" in page, (
        f"docs/reference/agent-protocol.md has no such section, see {GUIDE}"
    )
    for operation in operations(version).values():
        row = table_row(operation)
        assert row in page, f"add the row that {COMMAND} prints to docs/reference/agent-protocol.md"


def test_an_operation_that_an_old_agent_lacks_is_explained() -> None:
    assert "too old" in unknown("renew")
    assert "build the sandbox's template again" in unknown("renew")
    assert "too old" not in unknown("dance")


@functools.cache
def served() -> dict[str, dict[str, str | None]]:
    """Every operation that ``main`` dispatches, with the fields that its code reads and their types, if checked."""
    scan = _Scan()
    [dispatch] = [node for node in ast.walk(scan.function("main", "_operate")) if isinstance(node, ast.Match)]
    found: dict[str, dict[str, str | None]] = {}
    for case in dispatch.cases:
        if isinstance(case.pattern, ast.MatchValue):
            assert isinstance(case.pattern.value, ast.Constant)
            found[str(case.pattern.value.value)] = scan.fields("main", case.body, "request")
    return found


class _Scan:
    """Follows a request through the agent's functions."""

    KINDS = {"text": "string", "integer": "integer"}

    def __init__(self) -> None:
        self._trees = {path.stem: ast.parse(path.read_text()) for path in AGENT.glob("*.py")}

    def function(self, module: str, name: str) -> ast.FunctionDef:
        [found] = [
            node
            for node in self._trees[module].body
            if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        return found

    def fields(self, module: str, body: list[ast.stmt], request: str) -> dict[str, str | None]:
        """What ``body`` reads from the variable ``request``, itself or in the functions that it passes it to."""
        found: dict[str, str | None] = {}
        for node in (node for statement in body for node in ast.walk(statement)):
            if isinstance(node, ast.Subscript) and _is_name(node.value, request):
                assert isinstance(node.slice, ast.Constant)
                found.setdefault(str(node.slice.value), None)
            elif isinstance(node, ast.Call):
                found |= {
                    name: kind
                    for name, kind in self._read_by(module, node, request)
                    if kind is not None or name not in found
                }
        found.pop("op", None)
        return found

    def _read_by(self, module: str, call: ast.Call, request: str) -> Iterator[tuple[str, str | None]]:
        target = call.func
        if isinstance(target, ast.Attribute) and target.attr == "get" and _is_name(target.value, request):
            assert isinstance(call.args[0], ast.Constant), "a field's name must be written out"
            yield str(call.args[0].value), None
            return
        for at, argument in enumerate(call.args):
            if not _is_name(argument, request):
                continue
            if isinstance(target, ast.Name) and target.id in self.KINDS:
                assert isinstance(call.args[1], ast.Constant), "a field's name must be written out"
                yield str(call.args[1].value), self.KINDS[target.id]
                continue
            callee_module, name = self._callee(module, target)
            callee = self.function(callee_module, name)
            yield from self.fields(callee_module, callee.body, callee.args.args[at].arg).items()

    def _callee(self, module: str, target: ast.expr) -> tuple[str, str]:
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            return target.value.id, target.attr
        assert isinstance(target, ast.Name)
        for node in self._trees[module].body:
            if isinstance(node, ast.ImportFrom) and target.id in [alias.name for alias in node.names]:
                assert node.module is not None
                return node.module, target.id
        return module, target.id


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def test_the_scan_sees_no_field_by_another_way() -> None:
    """Requests are read with ``get``, ``text``, ``integer`` and ``[...]``: else the scan would miss a field."""
    for path in AGENT.glob("*.py"):
        assert not re.search(r"request\.(items|pop|keys|values|setdefault)\b|\*\*request\b", path.read_text())
