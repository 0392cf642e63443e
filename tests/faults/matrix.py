"""The matrix of faults and guarantees, made from the tests that try them.

A test names its fault and what held: ``@pytest.mark.fault("kill -9 …", "G1 G2")``. This prints
the page; ``test_matrix.py`` holds the page to the tests:

    python tests/faults/matrix.py > tests/faults/README.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "README.md"

GUARANTEES = {
    "G1": "every committed event reaches every subscription that was active at its position, at "
    "least once",
    "G2": "per subscription and site, version n + 1 is first sent only after n was acknowledged, "
    "given up or collapsed",
    "G3": "id and data are the same in every attempt and replay",
    "G4": "after a crash at most the requests in flight are repeated",
    "G5": "a failing, slow or hostile receiver or site holds up nobody else",
    "G6": "what was sent can be replayed beside live traffic, marked as such",
    "G7": "nothing is sent before its commit is durable",
}

TOP = """\
# Faults and guarantees of the publisher

Each row is a fault that a test brings about, on a real PostgreSQL and with receivers on real sockets; each dot a guarantee that
held, judged by comparing the ledger with what the receivers got. `python tests/faults/matrix.py` makes this page from the tests.

"""

BOTTOM = """
Random kills are 20 by default; a hundred, in about a minute and a half:

```sh
pytest tests/faults/test_publisher_kills.py --random-kills 100
```
"""


@dataclass(frozen=True)
class Row:
    """One fault, the guarantees that held, and the test that says so."""

    fault: str
    guarantees: tuple[str, ...]
    path: Path
    test: str


def rows() -> list[Row]:
    """Every fault that a test names, in the order of files and lines."""
    paths = [*sorted(HERE.glob("test_*.py")), *sorted(HERE.parent.glob("test_publisher_*.py"))]
    return [row for path in paths for row in _rows(path)]


def _rows(path: Path) -> Iterator[Row]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    fault, held = (ast.literal_eval(argument) for argument in mark.args)
                    yield Row(fault, tuple(held.split()), path, node.name)


def page() -> str:
    """The page as it has to be."""
    guarantees = "".join(f"- **{name}** {text}\n" for name, text in GUARANTEES.items())
    head = f"| fault | {' | '.join(GUARANTEES)} | test |\n|---|{':-:|' * len(GUARANTEES)}---|\n"
    return f"{TOP}{guarantees}\n{head}{''.join(map(_line, rows()))}{BOTTOM}"


def _line(row: Row) -> str:
    dots = " | ".join("●" if name in row.guarantees else " " for name in GUARANTEES)
    place = row.path.name if row.path.parent == HERE else f"../{row.path.name}"
    return f"| {row.fault} | {dots} | [{row.test}]({place}) |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
