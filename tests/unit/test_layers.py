"""The fences between the parts of the code, read from its imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

APP = Path(__file__).parent.parent / "app"
SOURCES = sorted(p for p in APP.rglob("*.py") if "demo" not in p.parts)

# In the order of the flow: a file imports from its own group and from those above it.
ORDER = [
    {"__init__", "transcript", "errors", "languages", "hypotheses", "stages", "record"},
    {"sentence_words", "sentences", "segments", "spoken_language"},
    {"settings", "tempdir", "sizing", "turns", "pauses", "logs", "metrics", "tracing", "otel"},
    {"audio"},
    {"lines", "subtitles"},
    {"speakers", "formats", "voices", "openai_formats"},
    {"models"},
    {"store", "missing", "batching"},
    {"admission"},
    {"transcriber", "listening", "flow", "decoding", "aligners", "optional", "channels"},
    {"service", "vitals"},
    {"api"},
    {"main", "loading", "connection", "server"},
    {"cli"},
]
MODEL_LIBRARIES = {"torch", "torchaudio", "ctranslate2", "faster_whisper", "whisperx", "pyannote"}
ADAPTERS = {
    "devices", "windows", "vad", "recognizer", "aligner", "diarizer", "clustering", "linkage",
    "wav2vec", "word_times", "checkpoints", "fetcher",
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
    group = module.split(".")[0]
    return next((i for i, names in enumerate(ORDER) if group in names), None)


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_follow_the_flow(path: Path) -> None:
    own = layer(module_name(path))
    if path.name == "__init__.py" and path.parent != APP:
        assert path.read_text() == ""
        return
    assert own is not None, f"{module_name(path)} has no place in ORDER"
    for name in imports(path):
        target = layer(name.removeprefix("app.")) if name.startswith("app.") else None
        assert target is None or target <= own, f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_libraries_stay_behind_their_fences(path: Path) -> None:
    used, module = roots(path), module_name(path)
    if not module.startswith("api") and module != "main":
        assert not used & {"fastapi", "starlette"}
    if not (module.startswith("models.") and path.stem in ADAPTERS):
        assert not used & MODEL_LIBRARIES
    if module != "settings":
        assert not re.search(r"os\.(environ|getenv)", path.read_text())
    if module not in ("cli", "main"):
        assert "app.main" not in imports(path)


def test_all_but_the_adapters_imports_in_a_second() -> None:
    """No model library comes along with the rest of the code."""
    light = [m for p in SOURCES if (m := module_name(p)) and p.stem not in ADAPTERS]
    script = (
        "import sys\n"
        + "\n".join(f"import app.{m}" for m in light if m != "__init__")
        + f"\nprint(sorted({MODEL_LIBRARIES!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
