"""What a terminal shows of a pull's layers."""

from __future__ import annotations

from runtime.cli.layerlines import layer_lines
from runtime.images.model import Descriptor
from runtime.images.pulling import Arrived

LAYERS = [Descriptor("layer", f"sha256:{letter * 64}", 1000) for letter in "abcdef"]
DIGESTS = [layer.digest for layer in LAYERS]


def states(arrived: Arrived, begun: list[str], read: int = 0) -> list[str]:
    """Of six layers, of which the lowest is known."""
    lines = layer_lines(LAYERS, LAYERS[1:], arrived, begun, read)
    assert [line[:12] for line in lines] == [letter * 12 for letter in "abcdef"]
    return [" ".join(line[12:].split()[2:]) for line in lines]


def test_each_state() -> None:
    assert states(Arrived(frozenset(DIGESTS[1:4]), (500, 10)), ["config", *DIGESTS[1:3]], 1250) == [
        "known already", "done", "importing [#####---------------] 25%", "fetched", "fetching", "fetching",
    ]  # fmt: skip


def test_a_part_alone_is_the_lowest_layers_that_is_missing() -> None:
    assert states(Arrived(frozenset(), (500,)), DIGESTS[1:2]) == [
        "known already", "fetching [##########----------] 50%", "waiting", "waiting", "waiting", "waiting",
    ]  # fmt: skip


def test_at_the_end_all_are_done() -> None:
    assert states(Arrived(frozenset(DIGESTS), ()), DIGESTS[1:], 5000) == ["known already", *["done"] * 5]
