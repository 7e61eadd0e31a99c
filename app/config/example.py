"""The settings as a file to copy: .env.example."""

from __future__ import annotations

from pydantic import SecretStr

from app.config.settings import Settings, variable_name

SECTIONS = {
    "asr_model": "Models",
    "device": "Devices",
    "batch_size": "Recognition",
    "segmentation_batch_size": "Diarization",
    "max_file_size_mb": "Limits",
    "default_dialect": "Answers",
    "api_keys": "Access",
    "host": "Server",
}


def write_example() -> str:
    """The text of .env.example: every variable with its default and what it does."""
    lines = [
        "# Copy to .env and change what you need. An empty value means the default; a value set in",
        "# the environment wins. Where a setting has two names, either will do.",
    ]
    for field, info in Settings.model_fields.items():
        if field in SECTIONS:
            lines += ["", f"# -- {SECTIONS[field]} --"]
        name, *others = variable_name(field).split(" or ")
        also = f" (also {', '.join(others)})" if others else ""
        lines += ["", f"# {info.description}{also}", f"#{name}={_shown_default(field)}"]
    return "\n".join(lines) + "\n"


def _shown_default(field: str) -> str:
    if field == "temp_dir":
        return "/tmp/whisperx-asr"
    default = Settings.model_fields[field].get_default(call_default_factory=True)
    if isinstance(default, SecretStr) or default is None or default == {}:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else f"{default}"
