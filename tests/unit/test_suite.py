"""The suite itself: what tests share stands in tests/support."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.support.remembering import remembering

TESTS = Path(__file__).parents[1]
ROOMS = ("unit", "service", "deploy")


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS))
)
def test_nobody_imports_a_test(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            assert not name.startswith(tuple(f"tests.{room}" for room in ROOMS)), name
            assert not name.startswith("tests.test_"), name


def test_what_a_model_answered_is_computed_once(tmp_path: Path) -> None:
    computed: list[Any] = []

    def run(items: Any) -> list[str]:
        computed.extend(items)
        return [f"about {item}" for item in items]

    first, same = (remembering(run, "a model", tmp_path) for _ in range(2))
    other = remembering(run, "the model with another setting", tmp_path)
    assert first(["a", "b"]) == ["about a", "about b"]
    assert same(["b", "c", "a"]) == ["about b", "about c", "about a"]
    assert computed == ["a", "b", "c"]
    assert other(["a"]) == ["about a"]
    assert computed == ["a", "b", "c", "a"]
