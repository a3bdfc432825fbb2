"""What an image says of the commits that it is made of."""

from __future__ import annotations

import doctest
import zlib

import pytest

from runtime.images import composing, references
from runtime.images.composing import Step, config_document, history_line, moment
from runtime.images.compression import BLOCK, Compression, compressor
from runtime.images.references import parse_reference, reference_of
from vcs.errors import InvalidName
from vcs.model import CommitId, RootId
from vcs.snapshot import CommitInfo

ROOT = RootId(bytes(32))


def commit(message: str, time: int = 1_700_000_000) -> CommitInfo:
    return CommitInfo(CommitId("c" * 40), ROOT, (), message, "Ada", "ada@example.org", time, 60)


def step(message: str, *, is_empty: bool = False) -> Step:
    return Step(None, commit(message), is_empty)


def test_examples() -> None:
    for module in (composing, references):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


def test_a_line_of_history() -> None:
    assert history_line(step("title\n\nbody")) == {
        "created": "2023-11-14T22:13:20Z", "author": "Ada <ada@example.org>", "created_by": "title",
    }  # fmt: skip
    line = history_line(step("before\n\nContainer: web\nCommand: apt-get install nginx\n", is_empty=True))
    assert (line["created_by"], line["comment"]) == ("apt-get install nginx", "before")
    assert line["empty_layer"] is True
    line = history_line(step("RUN a...\n\n    RUN a\n\n    b\n\nLayer: sha256:1\n"))
    assert line["created_by"] == "RUN a\n\nb"
    for time, year in ((-1, "1970"), (1 << 60, "9999")):
        assert moment(commit("title", time)).startswith(year)
    assert history_line(step("mine\n\n    code\n"))["created_by"] == "mine"


def test_the_history_of_an_image_that_was_imported() -> None:
    image = {"history": [{"created_by": "ADD"}, {"created_by": "RUN"}], "config": {"Cmd": ["x"]}, "rootfs": {}}

    def made_by(*steps: Step) -> list[tuple[str, bool]]:
        document = config_document(image, image, steps, ["sha256:1"])
        assert document["rootfs"] == {"type": "layers", "diff_ids": ["sha256:1"]}
        assert document["config"] == {"Cmd": ["x"]}
        return [(line["created_by"], line.get("empty_layer", False)) for line in document["history"]]

    whole = [("ADD", True), ("RUN", True), ("Image web", False)]
    assert made_by(step("Image web\n\nImage: sha256:2\n")) == whole
    last = made_by(step("RUN\n\nLayer: sha256:1\nImage: sha256:2\n"), step("mine"))
    assert last == [("ADD", True), ("RUN", False), ("mine", False)]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("size", [0, 1, BLOCK, 5 * BLOCK + 7])
def test_what_was_compressed_comes_back(compression: Compression, size: int) -> None:
    data = (b"%d" % size + bytes(range(256)) * 1000) * (size // 256_000 + 1)
    data = data[:size]
    out = bytearray()

    class Out:
        def write(self, piece: bytes, /) -> None:
            out.extend(piece)

    packer = compressor(compression, Out())
    for start in range(0, size, BLOCK):
        packer.add(data[start : start + BLOCK])
    packer.finish()
    packer.abandon()
    match compression:
        case "gzip":
            back = zlib.decompress(bytes(out), wbits=31)
        case "zstd":
            import zstandard

            back = zstandard.ZstdDecompressor().decompressobj().decompress(bytes(out))
        case "none":
            back = bytes(out)
    assert back == data


def test_names() -> None:
    for text, name, tag in (
        ("web", "web", "latest"),
        ("web:1.2", "web", "1.2"),
        ("localhost:5000/team/web", "localhost:5000/team/web", "latest"),
        ("[::1]:5000/web:x", "[::1]:5000/web", "x"),
    ):
        found = parse_reference(text)
        assert (found.name, found.tag, found.short) == (name, tag, tag)
    for text in ("", ":1", "Web", "web:", "web:-x", "a//b", "a/", "web:" + "x" * 129, "a" * 256, "web:a b"):
        with pytest.raises(InvalidName):
            parse_reference(text)
    assert str(reference_of("web", "c" * 40)) == "web:latest"
    assert str(reference_of("Main", "c" * 40)) == "Main"
    assert str(reference_of("main~2", "c" * 40)) == "c" * 12
