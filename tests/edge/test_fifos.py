"""A FIFO in the place of a file that a station reads is named, and not waited for."""

import os
from pathlib import Path

import pytest

from edge.bundle.loading import load_bundle
from edge.errors import ConfigurationError
from edge.mqtt.tls import tls_context
from edge.plc.opcua.startup_check import OpcUaUnusable, read_certificate
from edge.settings.mask_overrides import FILE_NAME, MaskOverrides
from edge.settings.opcua import OpcUaSettings
from edge.station.model.tuning import read_tuning

NOT_REGULAR = "Not a regular file"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path, 0o600)
    return path


def test_the_list_of_masks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(ConfigurationError, match="draw the mask again"):
        MaskOverrides(tmp_path).drawn()


def test_the_tuning(fifo: Path, bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_tuning(fifo, load_bundle(bundle), "CPU", 1) is None
    assert "not a tuning file" in caplog.text


@pytest.mark.parametrize("which", ["ca", "certificate"])
def test_certificates_of_a_broker(fifo: Path, which: str) -> None:
    named = str(fifo)
    with pytest.raises(ConfigurationError, match=NOT_REGULAR):
        if which == "ca":
            tls_context(named, None, None)
        else:
            tls_context(None, named, named)


def test_the_certificate_of_an_opc_ua_server(fifo: Path) -> None:
    named = str(fifo)
    settings = OpcUaSettings(
        host="127.0.0.1",
        certificate_file=named,
        key_file=named,
        username="mes",
        password_file=named,
    )
    with pytest.raises(OpcUaUnusable, match=NOT_REGULAR):
        read_certificate(settings)
