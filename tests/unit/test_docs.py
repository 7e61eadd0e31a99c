"""The documents: their links, anchors, commands and paths exist."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from app.cli import main
from tests.support.paths import ROOT

MAX_README_LINES = 200
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deploy/**/*.md"),
        ROOT / "app" / "demo" / "README.md",
    ]
)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
# In the repository, in app/, or beside the document: a folder, or anything below the top folders.
PATH = re.compile(r"(?:\.ci|app|benchmarks|deploy|docs|tests)/[\w./-]+|(?:[\w-]+/)+(?:[\w-]+\.py)?")
# Not there in a checkout: the operator puts certificates into the one, the other is in a bucket.
ABSENT = {"deploy/certs", "uploads"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """What `#...` may name, as GitHub derives it from headings."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(path)):
        text = LINK.sub(lambda link: link[0][1:].partition("]")[0], heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        numbered = (f"{slug}-{n}" if n else slug for n in itertools.count())
        found.add(next(anchor for anchor in numbered if anchor not in found))
    return found


def links(path: Path) -> list[str]:
    """The links of a document that stay in the repository."""
    return [link for link in LINK.findall(prose(path)) if not re.match(r"[a-z]+:", link)]


def commands(path: Path) -> Iterator[list[str]]:
    """The words of each command line in a document, in blocks of shell and between backticks."""
    text = path.read_text(encoding="utf-8")
    lines = SPAN.findall(prose(path))
    for _, language, block in FENCE.findall(text):
        if language in ("sh", "bash"):
            lines += block.replace("\\\n", " ").splitlines()
    for command in itertools.chain.from_iterable(re.split(r"&&|\||;", line) for line in lines):
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # a quotation mark that is no quotation
            words = command.split()
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words[:2] == ["docker", "compose"]:
            words = _in_container(words)
        if words:
            yield words


def _in_container(words: list[str]) -> list[str]:
    """What `docker compose run` runs in a service."""
    after_run = itertools.dropwhile(lambda word: word != "run", words)
    after_service = itertools.dropwhile(lambda word: not word.startswith("whisperx"), after_run)
    return list(after_service)[1:]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        file, _, anchor = unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        assert target.exists(), f"{link} does not exist"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_every_document_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        files = [unquote(link).partition("#")[0] for link in links(path)]
        targets = [(path.parent / file).resolve() for file in files if file.endswith(".md")]
        waiting += [target for target in targets if target.is_file()]
    unlinked = {path for path in DOCUMENTS if path.parent == ROOT / "docs"} - seen
    assert not unlinked, [name(path) for path in unlinked]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_paths_exist(path: Path) -> None:
    for span in SPAN.findall(prose(path)):
        if PATH.fullmatch(span) and span.rstrip("/") not in ABSENT:
            places = (ROOT, ROOT / "app", path.parent)
            assert any((place / span).exists() for place in places), f"{span} does not exist"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    called = [
        (name(path), words[1])
        for path in DOCUMENTS
        for words in commands(path)
        if words[0] == "make" and len(words) > 1
    ]
    assert {"demo", "test"} <= {target for _, target in called}
    assert not [call for call in called if call[1] not in targets]


def test_subcommands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    called = {
        (name(path), words[1])
        for path in DOCUMENTS
        for words in commands(path)
        if Path(words[0]).name == "whisperx-asr" and len(words) > 1
    }
    assert {"serve", "download", "settings"} <= {command for _, command in called}
    for document, command in sorted(called):
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0, f"{document}: whisperx-asr {command} is no command"


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_README_LINES
