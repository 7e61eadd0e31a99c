"""The fences between the parts of the code, read from its imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
SOURCES = sorted(p for p in APP.rglob("*.py") if "demo" not in p.parts)

# From the bottom to the top: a module imports from its own room and from those below it.
ORDER = (
    "domain", "config", "observability", "text", "storage", "formats", "access", "audio", "engine",
    "models", "pipeline", "service", "api", "main", "serving", "cli",
)  # fmt: skip
# What is still to be mended: a recognizer's hypotheses are made in the pipeline.
EXCEPTIONS = {("models.recognizers.whisper", "app.pipeline.hypotheses")}
MODEL_LIBRARIES = {"torch", "torchaudio", "ctranslate2", "faster_whisper", "whisperx", "pyannote"}
ADAPTERS = {
    "models.devices", "models.fetcher", "models.recognizers.whisper",
    "models.recognizers.word_times", "models.alignment.aligner", "models.alignment.wav2vec",
    "models.pyannote.vad",
    "models.pyannote.windows", "models.pyannote.diarizer", "models.pyannote.clustering",
    "models.pyannote.linkage", "models.pyannote.checkpoints",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(APP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "app" or node.module.startswith("app."):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> int | None:
    room = module.removeprefix("app.").split(".")[0]
    return ORDER.index(room) if room in ORDER else None


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_follow_the_order(path: Path) -> None:
    module = module_name(path)
    if path.name == "__init__.py":
        assert path.parent == APP or path.read_text() == ""
        return
    own = layer(module)
    assert own is not None, f"{module} has no place in ORDER"
    for name in imports(path):
        target = layer(name) if name.startswith("app.") else None
        if not any(module == m and name.startswith(n) for m, n in EXCEPTIONS):
            assert target is None or target <= own, f"{module} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_libraries_stay_behind_their_fences(path: Path) -> None:
    used, module = roots(path), module_name(path)
    if module.split(".")[0] not in ("api", "main", "serving"):
        assert not used & {"fastapi", "starlette"}
    if module not in ADAPTERS:
        assert not used & MODEL_LIBRARIES
    if not module.startswith("config."):
        assert not re.search(r"os\.(environ|getenv)", path.read_text())
    if module not in ("cli", "main"):
        assert "app.main" not in imports(path)


def test_all_but_the_adapters_imports_in_a_second() -> None:
    """No model library comes along with the rest of the code."""
    light = [m for p in SOURCES if (m := module_name(p)) not in ADAPTERS]
    script = (
        "import sys\n"
        + "\n".join(f"import app.{m}" for m in light if m != "__init__")
        + f"\nprint(sorted({MODEL_LIBRARIES!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
