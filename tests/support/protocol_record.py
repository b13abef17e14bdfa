"""The protocol of the agent as data, for comparison with what was recorded for each version.

``python -m tests.support.protocol_record`` writes the record of the present version, and prints its rows for the page.
"""

import json
from pathlib import Path
from typing import Any

from thawbox.agent import protocol
from thawbox.guest.operations import ERROR_SHAPE, LISTS, Operation, operations

FRAMES = {
    name: getattr(protocol, name)
    for name in (
        *("STDIN", "STDIN_EOF", "SIGNAL", "DATA", "END", "RESIZE"),
        *("RESULT", "ERROR", "STARTED", "STDOUT", "STDERR", "EXIT", "VALUE"),
    )
}
"""Number of each frame type, by name."""
COMMAND = ".venv/bin/python -m tests.support.protocol_record"
RECORDS = Path(__file__).parents[1] / "unit" / "agent"
NAMES = {number: name for name, number in FRAMES.items()}


def described(version: int) -> dict[str, Any]:
    """Everything that an agent of ``version`` and its client agree on, as JSON has it."""
    return {
        "frames": FRAMES,
        "error": dict(ERROR_SHAPE),
        "operations": {
            name: {
                "takes": dict(operation.takes),
                "sends": list(operation.sends),
                "answers": {
                    frame: None if shape is None else dict(shape)
                    for frame, shape in operation.answers.items()
                },
                "list": name in LISTS,
            }
            for name, operation in sorted(operations(version).items())
        },
    }


def table_row(operation: Operation) -> str:
    """The operation as a row of the table in docs/reference/agent-protocol.md."""
    takes = ", ".join(f"`{name}` {kind}" for name, kind in operation.takes.items()) or "nothing"
    sends = ", ".join(operation.sends) or "nothing"
    answers = "; ".join(_frame(name, shape) for name, shape in operation.answers.items())
    return f"| `{operation.name}` | {takes} | {sends} | {answers} |"


def _frame(name: str, shape: Any) -> str:
    if shape is None:
        return name
    return f"{name} " + (", ".join(f"`{field}` {kind}" for field, kind in shape.items()) or "(empty)")


def main() -> None:
    """Write the record of the present version, and print the table rows of the operations that are new in it."""
    record = RECORDS / f"protocol_v{protocol.VERSION}.json"
    record.write_text(json.dumps(described(protocol.VERSION), indent=1) + "\n")
    print(f"Written: {record}. Rows for docs/reference/agent-protocol.md, Version {protocol.VERSION}:")
    for operation in operations().values():
        if operation.since == protocol.VERSION:
            print(table_row(operation))


if __name__ == "__main__":
    main()
