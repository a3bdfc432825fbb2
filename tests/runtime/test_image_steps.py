"""What commits say of an image's history: pure, and safe whatever the history says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.images import model
from runtime.images.image import Image, ImageLayer
from runtime.images.model import History
from runtime.images.steps import Step, flat_step, instruction, steps_of
from tests.support.images import MadeImage, digest


def image(*lines: dict[str, Any], layers: int | None = None, **more: Any) -> Image:
    count = sum(not line.get("empty_layer") for line in lines) if layers is None else layers
    data = MadeImage([b"%d" % number for number in range(count)], list(lines), more=more).config()
    config, document = model.config_of(data, "config")
    read = tuple(ImageLayer(diff_id, 1, lambda: pytest.fail("no layer is read")) for diff_id in config.rootfs.diff_ids)
    return Image("app:1", digest(data), config.platform, config, document, read)


def titles(steps: tuple[Step, ...]) -> list[str]:
    return [step.message.split("\n")[0] for step in steps]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ('/bin/sh -c #(nop)  CMD ["bash"]', 'CMD ["bash"]'),
        ("/bin/sh -c #(nop) ADD file:0ab in / ", "ADD file:0ab in /"),
        ("/bin/sh -c apt-get update", "RUN apt-get update"),
        ("RUN /bin/sh -c apt-get update # buildkit", "RUN apt-get update"),
        ("RUN |1 A=1 /bin/sh -c make # buildkit", "RUN make"),
        ("|2 A=1 B=2 /bin/bash -c make all", "RUN make all"),
        ("/bin/bash -ec set", "RUN set"),
        ("COPY . /app # buildkit", "COPY . /app"),
        ("umoci insert", "umoci insert"),
        ("a\0b\x1b[31m", "ab[31m"),
        ("", "a comment"),
        (None, "a comment"),
    ],
)
def test_instructions(told: str | None, shown: str) -> None:
    assert instruction(History(created_by=told, comment="a comment")) == shown


def test_long_lines_are_told_in_full_below_a_title() -> None:
    told = "RUN /bin/sh -c " + " && ".join(f"step-{number}" for number in range(20))
    (step,) = steps_of(image({"created_by": told}))
    title, empty, *rest = step.message.split("\n")
    assert len(title) <= 72
    assert title.endswith("...")
    assert not empty
    assert rest[0] == "    " + instruction(History(created_by=told))


def test_a_history_cannot_forge_trailers() -> None:
    (step,) = steps_of(image({"created_by": "x\n\nLayer: sha256:0\nContainer: web"}))
    last = step.message.rstrip("\n").split("\n\n")[-1]
    assert [line.partition(":")[0] for line in last.split("\n")] == ["Layer", "Image"]
    assert "\nContainer:" not in step.message


def test_a_huge_line_is_cut() -> None:
    (step,) = steps_of(image({"created_by": "x" * 1_000_000}))
    assert len(step.message) < 20_000


@pytest.mark.parametrize(
    ("created", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1),
        ("2020-01-02T03:04:05.123456789Z", 1577934245),
        ("2020-01-02T03:04:05+01:00", 1577930645),
        ("0001-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", 0),
        ("yesterday", 0),
        ("2020-01-02T03:04:05", 0),
        ("", 0),
    ],
)
def test_times(created: str, seconds: int) -> None:
    steps = steps_of(
        image({"created": created, "created_by": "x"}, {"created_by": "y"}, created="1970-01-01T00:00:00Z")
    )
    assert [step.author.time for step in steps] == [seconds, seconds]


def test_configs_follow_the_lines() -> None:
    steps = steps_of(
        image(
            {"created_by": "ADD x /"},
            {"created_by": "ENV A=1", "empty_layer": True},
            {"created_by": "ENV A='", "empty_layer": True},
            {"created_by": "USER web", "empty_layer": True},
            {"created_by": "RUN y"},
        )
    )
    assert [step.config.get("config", {}) for step in steps[:4]] == [
        {}, {"Env": ["A=1"]}, {"Env": ["A=1"]}, {"Env": ["A=1"], "User": "web"},
    ]  # fmt: skip
    assert "rootfs" in steps[4].config
    assert [step.layer for step in steps] == [0, None, None, None, 1]


def test_without_a_history_each_layer_is_a_step() -> None:
    assert titles(steps_of(image(layers=3))) == ["Layer 1", "Layer 2", "Layer 3"]
    assert titles(steps_of(image({"created_by": "x"}, layers=2))) == ["Layer 1", "Layer 2"]
    assert titles(steps_of(image(layers=0))) == ["Image"]


def test_flat() -> None:
    made = image({"created_by": "x", "author": "Ann"}, {"created_by": "y"})
    step = flat_step(made)
    assert step.message == f"Image app:1\n\nImage: {made.id}\n"
    assert step.layer == 1
    assert json.loads(json.dumps(step.config)) == made.document
