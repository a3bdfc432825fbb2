"""Lines of a Dockerfile that change an image config."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.imagechange import image_change
from vcs.errors import BadInput

CONFIG: dict[str, Any] = {
    "os": "linux",
    "config": {
        "Cmd": ["old"], "Env": ["PATH=/bin", "A=1"], "Labels": {"a": "1"}, "ExposedPorts": {"80/tcp": {}},
        "WorkingDir": "/srv",
    },
}  # fmt: skip
MINUTE = 60 * 10**9


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ('CMD ["nginx", "-g", "daemon off;"]', "Cmd", ["nginx", "-g", "daemon off;"]),
        ("cmd nginx -g 'daemon off;'", "Cmd", ["/bin/sh", "-c", "nginx -g 'daemon off;'"]),
        ('CMD [ "not json', "Cmd", ["/bin/sh", "-c", '[ "not json']),
        ("CMD []", "Cmd", []),
        ("ENV A=2 B='x y'", "Env", ["PATH=/bin", "A=2", "B=x y"]),
        ("ENV C one two", "Env", ["PATH=/bin", "A=1", "C=one two"]),
        ("EXPOSE 443 53/udp", "ExposedPorts", {"80/tcp": {}, "443/tcp": {}, "53/udp": {}}),
        ('LABEL b="two words"', "Labels", {"a": "1", "b": "two words"}),
        ("USER www-data:www", "User", "www-data:www"),
        ("WORKDIR app", "WorkingDir", "/srv/app"),
        ("WORKDIR /opt/../data", "WorkingDir", "/data"),
        ('VOLUME ["/a b"]', "Volumes", {"/a b": {}}),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ("STOPSIGNAL SIGQUIT", "StopSignal", "SIGQUIT"),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        (
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f http://localhost/",
            "Healthcheck",
            {"Interval": MINUTE * 3 // 2, "Retries": 2, "Test": ["CMD-SHELL", "curl -f http://localhost/"]},
        ),
        ('HEALTHCHECK --timeout=1.5s CMD ["true"]', "Healthcheck", {"Timeout": 15 * 10**8, "Test": ["CMD", "true"]}),
    ],
)
def test_one_line(line: str, key: str, value: object) -> None:
    changed = image_change([line])(CONFIG)
    assert changed["config"][key] == value
    assert changed["os"] == "linux"
    assert {**changed["config"], key: None} == {**CONFIG["config"], key: None}


def test_a_new_entrypoint_drops_what_was_for_the_old_one() -> None:
    changed = image_change(['ENTRYPOINT ["e"]'])(CONFIG)["config"]
    assert changed["Entrypoint"] == ["e"]
    assert "Cmd" not in changed
    changed = image_change(["CMD new", 'ENTRYPOINT ["e"]'])(CONFIG)["config"]
    assert changed["Cmd"] == ["/bin/sh", "-c", "new"]


NONSENSE = """
RUN make|CMD||EXPOSE http|EXPOSE 80/quic|LABEL =x|LABEL alone|ENV 'open|STOPSIGNAL now!
HEALTHCHECK|HEALTHCHECK true|HEALTHCHECK --interval=soon CMD true|HEALTHCHECK --retries=x CMD true
"""


@pytest.mark.parametrize("line", NONSENSE.strip().replace("\n", "|").split("|"))
def test_what_makes_no_sense_is_refused_at_once(line: str) -> None:
    with pytest.raises(BadInput):
        image_change([line])
