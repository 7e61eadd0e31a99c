"""The deployment files as the tests read them, and nginx and Caddy with their configurations."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

BASE = ROOT / "docker-compose.yml"
PROD = ROOT / "docker-compose.prod.yml"
MULTI_GPU = ROOT / "deploy" / "docker-compose.multi-gpu.yml"
NGINX = ROOT / "deploy" / "nginx.conf.template"
CADDY = ROOT / "deploy" / "Caddyfile"
CADDY_LIMITS = ROOT / "deploy" / "caddy" / "ratelimit.caddy"


class Reset(list[Any]):
    """What `!reset` leaves behind."""


class ComposeLoader(yaml.SafeLoader):
    """YAML with the two tags by which an overlay replaces instead of appending."""


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


ComposeLoader.add_constructor("!reset", lambda loader, node: Reset())
ComposeLoader.add_constructor("!override", _plain)


def compose(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(path.read_text(), ComposeLoader)  # a SafeLoader
    return content


def nginx_command(folder: Path, config: Path) -> list[str]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("no nginx here")
    return [nginx, "-c", str(config), "-p", str(folder)]


def nginx_template(folder: Path, **values: int) -> str:
    """As the image's entrypoint fills it in, but with its files in the folder."""
    given = {
        "MAX_BODY_MB": 1564,
        "MAX_FILE_SIZE_MB": 1000,
        "MAX_CONNECTIONS_PER_ADDRESS": 100,
        "MAX_REQUESTS_PER_SECOND": 50,
    }
    text = NGINX.read_text().replace("/var/cache/nginx", str(folder))
    for name, value in (given | values).items():
        text = text.replace(f"${{{name}}}", str(value))
    return text


def without_resolver(text: str, ports: list[int]) -> str:
    """With replicas on this machine."""
    text = re.sub(r"\n    resolver(_timeout)? .*", "", text)
    found = re.search(r"    server whisperx-asr-replica:9000 resolve (.*);\n", text)
    assert found is not None
    servers = [f"    server 127.0.0.1:{port} {found[1]};\n" for port in ports]
    return text.replace(found[0], "".join(servers))


def nginx_main(folder: Path, text: str) -> str:
    """A whole configuration, for a process of this user's own."""
    kinds = ("proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return (
        f"pid {folder}/pid; error_log stderr; daemon off; master_process off; events {{}}\n"
        f"http {{\n{temporary}{text}}}\n"
    )


def nginx_version(nginx: str) -> tuple[int, ...]:
    shown = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", shown)
    assert found is not None
    return tuple(int(part) for part in found.groups())


def caddy_program() -> str:
    """That of a wheel, which is the newer one, or the installed one."""
    caddy = shutil.which("caddy", path=Path(sys.executable).parent) or shutil.which("caddy")
    if caddy is None:
        pytest.skip("no caddy here (Debian: apt install caddy)")
    return caddy


def caddy_folder(folder: Path, ports: list[int] | None = None) -> Path:
    """The Caddyfile and what it imports; with replicas on this machine if there are ports.

    Caddy's own builds, such as Debian's, lack the module of the rate limit: without it, its file is
    replaced by one that does nothing.
    """
    text = CADDY.read_text()
    if ports is not None:
        replicas = " ".join(f"127.0.0.1:{port}" for port in ports)
        text, num_found = re.subn(r"dynamic a [^\n]*\{\n[^}]*\}", f"to {replicas}", text)
        assert num_found == 1
    config = folder / "Caddyfile"
    config.write_text(text)
    (folder / "caddy").mkdir()
    limits = CADDY_LIMITS.read_text() if has_rate_limit() else "vars rate_limit none\n"
    (folder / "caddy" / CADDY_LIMITS.name).write_text(limits)
    return config


def has_rate_limit() -> bool:
    listed = subprocess.run(
        [caddy_program(), "list-modules"], capture_output=True, text=True, check=True
    )
    return "http.handlers.rate_limit" in listed.stdout


def keeps_bodies() -> bool:
    """Whether this Caddy can send a request with a body to a second replica, although the first one
    has not read any of it. Debian's, 2.6.2, closes the body with the first attempt; 2.11 does not.
    """
    shown = subprocess.run([caddy_program(), "version"], capture_output=True, text=True, check=True)
    found = re.match(r"v?(\d+)\.(\d+)", shown.stdout)
    assert found is not None
    return tuple(map(int, found.groups())) >= (2, 11)
