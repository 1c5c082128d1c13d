"""Every knob from the environment, and a bad one named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dexpression.errors import SettingError
from dexpression.settings import Settings


def test_without_variables_the_server_answers_this_machine_on_the_port_of_the_contract():
    settings = Settings.from_env({"PATH": "/bin"})
    assert (settings.host, settings.port) == ("127.0.0.1", 9874)
    assert settings.model_path.parts[-2:] == ("model", "dexpression.pkl")


def test_every_knob_is_read_from_its_variable():
    settings = Settings.from_env(
        {
            "DEXPRESSION_HOST": "0.0.0.0",
            "DEXPRESSION_PORT": "80",
            "DEXPRESSION_MODEL_PATH": "other/dexpression.pkl",
            "DEXPRESSION_MAX_UPLOAD_BYTES": "1000",
            "DEXPRESSION_MAX_PIXELS": "2000",
            "DEXPRESSION_THREADS": "8",
        }
    )
    assert settings == Settings("0.0.0.0", 80, Path("other/dexpression.pkl"), 1000, 2000, 8)


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("DEXPRESSION_PORT", "http", "DEXPRESSION_PORT is 'http'. It takes a whole number, such as 9874"),
        ("DEXPRESSION_PORT", "65536", "DEXPRESSION_PORT is 65536. It takes 1 to 65535"),
        ("DEXPRESSION_THREADS", "0", "DEXPRESSION_THREADS is 0. It takes 1 to 256"),
        ("DEXPRESSION_MAX_PIXELS", "-1", "DEXPRESSION_MAX_PIXELS is -1. It takes 1 or more"),
        ("DEXPRESSION_HOST", " ", "DEXPRESSION_HOST is empty"),
        ("DEXPRESSION_PROT", "1", "no setting DEXPRESSION_PROT. Known: DEXPRESSION_HOST"),
    ],
)
def test_a_bad_setting_is_named_with_what_it_takes(variable, value, wanted):
    with pytest.raises(SettingError) as raised:
        Settings.from_env({variable: value})
    assert wanted in str(raised.value)
