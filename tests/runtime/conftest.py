"""What tests of uppers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.overlay_cases import Layers, few_layers


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return few_layers(tmp_path)
