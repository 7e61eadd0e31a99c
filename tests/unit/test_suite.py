"""The suite itself: what tests share stands in tests/support."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.models.protocols import WindowBlock
from app.models.pyannote.windows import WindowModel
from tests.support.remembering import remembering, windows_of

TESTS = Path(__file__).parents[1]
ROOMS = ("unit", "service", "deploy", "ray")


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


def test_a_block_of_windows_is_remembered_by_what_it_hears(tmp_path: Path) -> None:
    """The same windows in a longer recording are known; a window more, or less sound, is not."""
    model, computed = WindowModel(10.0, 2.0, 4), list[Any]()

    def run(blocks: Any) -> list[int]:
        computed.extend(blocks)
        return [block.num_windows for block in blocks]

    run_once = remembering(run, "a model", tmp_path, windows_of(model))
    sound = np.random.default_rng(0).normal(size=40 * 16_000).astype(np.float32)
    first = WindowBlock(sound[: 20 * 16_000], 1, 3)
    same = WindowBlock(sound, 1, 3)
    others = [
        WindowBlock(sound, 1, 4),
        WindowBlock(sound, 2, 3),
        WindowBlock(sound[:200_000], 1, 3),
    ]
    assert run_once([first]) == run_once([same]) == [3]
    assert len(computed) == 1
    assert run_once(others) == [4, 3, 3]
    assert len(computed) == 4
