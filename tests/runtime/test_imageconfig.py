"""Settings and an image's config, put together."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime import imageconfig
from runtime.bundle import LaunchSpec
from runtime.settings import Health, Settings
from vcs.errors import BadInput, EngineError


@pytest.mark.parametrize(
    ("args", "entrypoint", "image", "expected"),
    [
        (("a",), None, {}, ["a"]),
        ((), None, {"Cmd": ["c", "d"]}, ["c", "d"]),
        (("a",), None, {"Cmd": ["c"], "Entrypoint": ["e"]}, ["e", "a"]),
        ((), None, {"Cmd": ["c"], "Entrypoint": ["e"]}, ["e", "c"]),
        ((), ("x",), {"Cmd": ["c"], "Entrypoint": ["e"]}, ["x"]),
        (("a",), (), {"Entrypoint": ["e"]}, ["a"]),
    ],
)
def test_commands(
    args: tuple[str, ...], entrypoint: tuple[str, ...] | None, image: dict[str, Any], expected: list[str]
) -> None:
    spec = LaunchSpec("i", "h", args, entrypoint=entrypoint)
    assert imageconfig.command(spec, {"config": image}) == expected
    assert imageconfig.command(spec, image) == expected


@pytest.mark.parametrize("image", [{}, {"config": {}}, {"config": None}, {"config": {"Cmd": None}}, {"Cmd": [""]}])
def test_nothing_to_run(image: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="no command"):
        imageconfig.command(LaunchSpec("i", "h"), image)


def test_environment() -> None:
    spec = LaunchSpec("i", "h", env=("B=user", "EMPTY=", "EQ=a=b", "bad"), tty=True)
    image = {"Env": ["A=image", "B=image", "PATH=/p"]}
    assert imageconfig.environment(spec, image, "h", "/home") == [
        "PATH=/p", "HOSTNAME=h", "TERM=xterm", "HOME=/home", "A=image", "B=user", "EMPTY=", "EQ=a=b",
    ]  # fmt: skip
    assert imageconfig.environment(LaunchSpec("i", "h"), {}, "h", "/")[0] == f"PATH={imageconfig.DEFAULT_PATH}"


def test_working_directory_and_user() -> None:
    spec = LaunchSpec("i", "h")
    assert imageconfig.working_directory(spec, {}) == "/"
    assert imageconfig.working_directory(spec, {"WorkingDir": "srv/x/"}) == "/srv/x"
    assert imageconfig.working_directory(LaunchSpec("i", "h", cwd="/y"), {"WorkingDir": "/x"}) == "/y"
    assert imageconfig.user(spec, {"User": "ana"}) == "ana"
    assert imageconfig.user(LaunchSpec("i", "h", user=""), {"User": "ana"}) == ""


def test_the_settings_of_a_container_are_asked_in_the_same_way() -> None:
    settings = Settings(args=("a",), env=("X=1",), user="ana", cwd="/w")
    assert imageconfig.command(settings, {"config": {"Entrypoint": ["e"], "Cmd": ["c"]}}) == ["e", "a"]
    assert imageconfig.command(settings, {"config": {"Entrypoint": [""], "Cmd": ["c"]}}) == ["a"]
    assert "X=1" in imageconfig.environment(settings, {}, "h", "/")
    assert (imageconfig.user(settings, {}), imageconfig.working_directory(settings, {})) == ("ana", "/w")


def test_labels_are_merged() -> None:
    image = {"config": {"Labels": {"a": "image", "b": "image", "n": 1}}}
    assert imageconfig.labels(Settings(labels={"b": "mine"}), image) == {"a": "image", "b": "mine", "n": "1"}
    assert imageconfig.labels(Settings(), {"config": {"Labels": None}}) == {}


def test_the_stop_signal() -> None:
    image = {"config": {"StopSignal": "SIGQUIT"}}
    assert imageconfig.stop_signal(Settings(), {}) == "SIGTERM"
    assert imageconfig.stop_signal(Settings(), image) == "SIGQUIT"
    assert imageconfig.stop_signal(Settings(stop_signal="9"), image) == "9"
    assert (imageconfig.stop_timeout(Settings()), imageconfig.stop_timeout(Settings(stop_timeout=0.0))) == (10, 0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15), ("sigterm", 15), ("SIGINT", 2), ("9", 9), ("37", 37),
        ("RTMIN", signal.SIGRTMIN), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("rtmax-1", signal.SIGRTMAX - 1),
    ],
)  # fmt: skip
def test_signals(text: str, number: int) -> None:
    assert imageconfig.signal_number(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "999999999999", "TERM+1", "SIG", "SIG_DFL", "DFL", "RTMAX+1", "-1", "²"]
)
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(BadInput, match="is no signal"):
        imageconfig.signal_number(text)


def test_health() -> None:
    image = {
        "config": {"Healthcheck": {"Test": ["CMD", "ping"], "Interval": 5_000_000_000, "Timeout": 0, "Retries": 7}}
    }
    assert imageconfig.health(Settings(), image) == Health(("CMD", "ping"), interval=5.0, retries=7)
    own = Health(("CMD-SHELL", "true"), start_period=1.5)
    assert imageconfig.health(Settings(health=own), image) == own
    assert imageconfig.health(Settings(health=Health(("NONE",))), image) is None
    assert imageconfig.health(Settings(), {"config": {"Healthcheck": {"Test": ["NONE"]}}}) is None
    assert imageconfig.health(Settings(), {"config": {"Healthcheck": {"Test": []}}}) is None
    assert imageconfig.health(Settings(), {}) is None


def test_exposed_ports_are_in_order() -> None:
    assert imageconfig.exposed_ports({"config": {"ExposedPorts": {"8080/tcp": {}, "80/tcp": {}, "53/udp": {}}}}) == [
        "53/udp", "80/tcp", "8080/tcp",
    ]  # fmt: skip
    assert imageconfig.exposed_ports({}) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_MEMBERS = ("Entrypoint", "Cmd", "Env", "User", "WorkingDir", "Labels", "StopSignal", "Healthcheck", "ExposedPorts")


@given(st.dictionaries(st.sampled_from(_MEMBERS), _JSON), st.booleans())
@example({"Entrypoint": [""]}, True)
def test_a_malformed_image_is_as_one_that_says_nothing(image: dict[str, Any], wrapped: bool) -> None:
    config = {"config": image} if wrapped else image
    settings = Settings(args=("true",))
    assert imageconfig.command(settings, config)[-1:]
    assert all("=" in item for item in imageconfig.environment(settings, config, "h", "/"))
    assert imageconfig.working_directory(settings, config).startswith("/")
    for answer in (imageconfig.user, imageconfig.labels, imageconfig.stop_signal, imageconfig.health):
        answer(settings, config)
    imageconfig.exposed_ports(config)
