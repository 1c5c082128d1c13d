"""Settings from environment variables, their documentation, and the errors for bad values."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from dexpression.errors import SettingError
from dexpression.settings import Settings, describe_settings, shown_default, variable
from tests.support.server import ROOT


def test_without_variables_the_server_serves_this_machine_alone_on_port_9874():
    settings = Settings.from_env({"PATH": "/bin"})
    assert (settings.host, settings.port) == ("127.0.0.1", 9874)
    assert settings.model_path == ROOT / "model"


def test_a_setting_is_read_from_its_variable():
    settings = Settings.from_env(
        {
            "DEXPRESSION_HOST": "0.0.0.0",
            "DEXPRESSION_PORT": "80",
            "DEXPRESSION_MODEL_PATH": "other/dexpression.pkl",
            "DEXPRESSION_MAX_UPLOAD_BYTES": "1000",
            "DEXPRESSION_MAX_PIXELS": "2000",
            "DEXPRESSION_WORKERS": "8",
            "DEXPRESSION_QUEUE_TIMEOUT_SECONDS": "2.5",
            "DEXPRESSION_LOG": "json",
            "DEXPRESSION_READING": "labels",
        }
    )
    assert settings == Settings(
        host="0.0.0.0",
        port=80,
        model_path=Path("other/dexpression.pkl"),
        max_upload_bytes=1000,
        max_pixels=2000,
        workers=8,
        queue_timeout_seconds=2.5,
        log="json",
        reading="labels",
    )


@pytest.mark.parametrize("setting", fields(Settings), ids=variable)
def test_the_help_and_the_table_in_the_documentation_have_every_setting(setting):
    table = (ROOT / "docs" / "operations.md").read_text().splitlines()
    assert f"{variable(setting)} " in describe_settings()
    assert f"| `{variable(setting)}` | `{shown_default(setting)}` | {setting.metadata['meaning']} |" in table


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DEXPRESSION_PORT", "http", "DEXPRESSION_PORT is 'http'. It takes a whole number, such as 9874"),
        ("DEXPRESSION_PORT", "65536", "DEXPRESSION_PORT is 65536. It takes 1 to 65535"),
        ("DEXPRESSION_WORKERS", "0", "DEXPRESSION_WORKERS is 0. It takes 1 to 256"),
        ("DEXPRESSION_WORKERS", "257", "DEXPRESSION_WORKERS is 257. It takes 1 to 256"),
        (
            "DEXPRESSION_WORKERS",
            "",
            "DEXPRESSION_WORKERS is empty. Give it a value, or unset it (default: one per usable core)",
        ),
        ("DEXPRESSION_WORKERS", "1.5", "DEXPRESSION_WORKERS is '1.5'. It takes a whole number, such as 1."),
        ("DEXPRESSION_WORKERS", "None", "DEXPRESSION_WORKERS is 'None'. It takes a whole number, such as 1."),
        ("DEXPRESSION_MAX_PIXELS", "-1", "DEXPRESSION_MAX_PIXELS is -1. It takes 1 or more"),
        ("DEXPRESSION_HOST", " ", "DEXPRESSION_HOST is empty"),
        ("DEXPRESSION_QUEUE_TIMEOUT_SECONDS", "nan", "DEXPRESSION_QUEUE_TIMEOUT_SECONDS is nan. It takes 0.1 to 3600"),
        ("DEXPRESSION_LABELS", "nine", "DEXPRESSION_LABELS is 'nine'. It takes five or seven"),
        ("DEXPRESSION_READING", "votes", "DEXPRESSION_READING is 'votes'. It takes people or labels"),
        ("DEXPRESSION_READING", "", "DEXPRESSION_READING is empty. Give it a value, or unset it (default: people)"),
        ("DEXPRESSION_LOG_LEVEL", "info", "DEXPRESSION_LOG_LEVEL is 'info'. It takes DEBUG"),
        ("DEXPRESSION_HOSTS", "app.example:80", "DEXPRESSION_HOSTS has 'app.example:80'. It takes names such as"),
        ("DEXPRESSION_PROT", "1", "no setting DEXPRESSION_PROT. Known: DEXPRESSION_HOST"),
    ],
)
def test_the_error_for_a_bad_setting_names_it_and_the_allowed_values(variable, value, message):
    with pytest.raises(SettingError) as raised:
        Settings.from_env({variable: value})
    assert message in str(raised.value)


def test_the_help_shows_variable_default_and_meaning_in_columns():
    columns = [re.split(r"\s{2,}", line.strip()) for line in describe_settings().splitlines()]
    assert [row[:2] for row in columns] == [[variable(setting), shown_default(setting)] for setting in fields(Settings)]
    assert all(len(row) == 3 for row in columns)


@pytest.mark.parametrize(
    "origins",
    [
        "https://*.good.example",
        "good.example",
        "https://good.example/",
        "https://good.example/page",
        "https://good.example:443",
        "http://good.example:80",
        "https://a.example,https://b.example",
        "https://user@good.example",
        "https://gööd.example",
        "https://good.example?",
        "null",
        ".*",
        "* https://good.example",
    ],
)
def test_origins_are_exact_or_the_error_shows_the_right_form(origins):
    with pytest.raises(SettingError, match=r"https://app\.example"):
        Settings.from_env({"DEXPRESSION_CORS_ORIGINS": origins})


@pytest.mark.parametrize(
    "origins", ["*", "https://a.example", "https://a.example:8443 http://localhost:8000", "http://[::1]:8000"]
)
def test_exact_origins_and_an_asterisk_are_accepted(origins):
    assert Settings.from_env({"DEXPRESSION_CORS_ORIGINS": origins}).cors_origins == origins
