"""What is installed is what was locked, byte for byte, from wherever the user's index is."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

LOCKS = tuple(sorted(path.name for path in ROOT.glob("requirements*.lock")))
PINNED = re.compile(r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[^ =]+( ; .+)?$")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def locked(name: str) -> list[str]:
    """The lines of a lock file, those of a package joined."""
    text = re.sub(r"^\s*#.*$", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_its_hashes(name: str) -> None:
    lines = locked(name)
    assert len(lines) > 80
    for line in lines:
        requirement, *hashes = re.split(r"\s+(?=--hash=)", line.strip())
        assert PINNED.match(requirement), line
        assert hashes, f"no hash: {requirement}"
        assert all(HASH.fullmatch(item) for item in hashes), line


@pytest.mark.parametrize("name", LOCKS)
def test_no_index_is_written_down(name: str) -> None:
    """Mirrors and private indexes are the user's business; hashes hold for all of them."""
    text = (ROOT / name).read_text()
    assert not re.search(r"https?:|file:|@ |--(extra-)?index-url|--find-links|--trusted", text)


def test_what_is_declared_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[\[<>=]", item)[0].lower() for item in project["dependencies"]]
    pinned = {re.split(r"[\[=]", line)[0] for line in locked("requirements.lock")}
    assert {re.sub(r"[._]", "-", name) for name in names} <= pinned


def test_accepted_advisories_have_reasons() -> None:
    """And make hands exactly them to pip-audit, whose database is not asked here."""
    lines = [
        line
        for line in (ROOT / "accepted-advisories.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    ids = []
    for line in lines:
        advisory, reason = line.split(maxsplit=1)
        assert re.fullmatch(r"(CVE|PYSEC|GHSA)-[\w-]+", advisory)
        assert len(reason.split()) > 5
        ids.append(advisory)
    recipe = next(
        line for line in (ROOT / "Makefile").read_text().splitlines() if "--ignore-vuln" in line
    )
    command = recipe.strip().replace("$$", "$")
    shown = subprocess.run(
        ["bash", "-c", f"echo {command}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [word for name in ids for word in ("--ignore-vuln", name)]


def test_nothing_is_installed_without_hashes_by_default() -> None:
    for path in (ROOT / "Makefile", ROOT / "Dockerfile"):
        text = Path(path).read_text()
        assert "--require-hashes -r" in text
