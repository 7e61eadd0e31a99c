"""Fences that import-linter's contracts (pyproject.toml) do not cover."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

APP = ROOT / "app"
SOURCES = sorted(p for p in APP.rglob("*.py") if not {"demo", "migrations"} & {*p.parts})

MODEL_LIBRARIES = {
    "torch", "torchaudio", "ctranslate2", "faster_whisper", "whisperx", "pyannote", "transformers",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def libraries(path: Path) -> set[str]:
    """What a module imports at its top, outside the project."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def is_heavy(path: Path) -> bool:
    """An adapter of a model library, or what imports one."""
    return bool(libraries(path) & MODEL_LIBRARIES) or module_name(path) == "app.models.builders"


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if path.name == "__init__.py":
        assert path.parent == APP or path.read_text() == ""
    if not module_name(path).startswith("app.config."):
        assert not re.search(r"os\.(environ|getenv)", path.read_text())


def test_ray_stays_in_modules_of_its_own() -> None:
    importers = {module_name(path) for path in SOURCES if "ray" in libraries(path)}
    own = {module_name(path) for path in SOURCES if path.name.startswith("ray")}
    assert importers == own
    assert all(name.startswith("app.serving.ray") for name in own)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_model_libraries_stay_in_the_adapters(path: Path) -> None:
    if not module_name(path).startswith("app.models."):
        assert not libraries(path) & MODEL_LIBRARIES


def test_all_but_the_adapters_imports_without_model_libraries() -> None:
    heavy = {module_name(path) for path in SOURCES if is_heavy(path)}
    light = [module_name(path) for path in SOURCES if module_name(path) not in heavy]
    light = [name for name in light if not name.startswith("app.serving.ray")]  # an extra
    assert len(light) > 5 * len(heavy)
    script = (
        "import sys\n"
        + "\n".join(f"import {name}" for name in light)
        + f"\nprint(sorted({MODEL_LIBRARIES!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
