"""`horizonctl settings`: what people read of the settings is what the service reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from service.cli.main import main
from service.cli.settings_reference import env_example, markdown, variables
from service.settings import Settings

ROOT = Path(__file__).parents[2]


def test_env_example_is_what_the_settings_say() -> None:
    written = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert written == env_example(), "run: horizonctl settings --env-example > .env.example"


def test_the_page_of_settings_is_what_the_settings_say() -> None:
    written = (ROOT / "docs/settings.md").read_text(encoding="utf-8")

    assert written == markdown(), "run: horizonctl settings --markdown > docs/settings.md"


def test_every_setting_has_a_meaning() -> None:
    without = [variable.name for variable in variables() if not variable.meaning]

    assert without == []


def test_env_example_uncommented_and_filled_in_gives_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)
    required: dict[str, Any] = {
        "secret_key": Fernet.generate_key().decode(),
        "public_base_url": "https://bots.example.com",
        "admin_api_key": "k" * 32,
    }
    names = {variable.name for variable in variables()}
    lines = [line.removeprefix("# ") for line in env_example().splitlines()]
    assigned = [line for line in lines if line.partition("=")[0] in names and "=" in line]
    file = tmp_path / "env"
    file.write_text("\n".join(assigned), encoding="utf-8")

    read = Settings(_env_file=file, **required)
    default = Settings(_env_file=None, **required)

    assert len(assigned) == len(names)
    assert read == default


def test_settings_are_shown_as_json_without_any_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["settings", "--json"])

    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {entry["name"] for entry in shown} == {name.upper() for name in Settings.model_fields}


def test_two_forms_at_once_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["settings", "--markdown", "--env-example"])

    assert code == 2
    assert capsys.readouterr().out == ""
