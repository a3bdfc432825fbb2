"""Images that umoci and buildah made: the imported root is the one that `umoci unpack` unpacks, name for name."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.compare import differences

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="umoci unpacks owners and devices as root only")

Change = Callable[[Path], None]


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, env=env)
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode()


def _base(root: Path) -> None:
    """Some of everything: times before the umask and the clock have a say in them are umoci's own."""
    for name in ("bin", "etc/conf.d", "usr/share/doc", "var/empty"):
        (root / name).mkdir(parents=True)
    (root / "bin/tool").write_bytes(os.urandom(700_000))
    (root / "bin/tool").chmod(0o4755)
    os.link(root / "bin/tool", root / "bin/tool2")
    (root / "etc/motd").write_text("hello")
    (root / "etc/conf.d/one").write_text("1")
    (root / "etc/conf.d/two").write_text("2")
    os.chown(root / "etc/motd", 33, 44)
    os.symlink("../etc/motd", root / "usr/motd")
    os.mkfifo(root / "var/fifo")
    (root / "var/empty").chmod(0o1777)


def _many(root: Path) -> None:
    (root / "usr/share/doc/new").write_text("new")
    (root / "etc/motd").write_text("changed")


def _whiteouts(root: Path) -> None:
    (root / "etc/conf.d/one").unlink()
    shutil.rmtree(root / "usr/share")
    (root / "usr/motd").unlink()
    (root / "usr/motd").mkdir()
    (root / "usr/motd/inside").write_text("a directory where a link was")


def _names(root: Path) -> None:
    directory = os.fsencode(root)
    for name in (b"latin-\xe9", b"new\nline", b"x" * 200, "ünïcode".encode()):
        with open(os.path.join(directory, b"etc", name), "wb") as file:
            file.write(name)
    (root / "etc/.whale").write_text("begins like a whiteout")


def _capabilities(root: Path) -> None:
    (root / "bin/ping").write_text("ping")
    run("setcap", "cap_net_raw+ep", root / "bin/ping")
    os.setxattr(root / "bin/ping", "user.note", b"\0binary\xff")
    (root / "bin/ping").chmod(0o755)


def _links(root: Path) -> None:
    """A further name of a file of the layer below."""
    os.link(root / "bin/tool", root / "usr/tool3")
    (root / "bin/tool2").unlink()


def _sparse(root: Path) -> None:
    with (root / "var/sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"end")


KINDS: dict[str, tuple[Change, ...]] = {
    "one layer": (_base,),
    "many layers": (_base, _many, _capabilities, _names),
    "whiteouts": (_base, _whiteouts),
    "names that are not UTF-8": (_base, _names),
    "setuid and capabilities": (_base, _capabilities),
    "hard links across layers": (_base, _links),
    "sparse": (_base, _sparse),
}


@pytest.fixture
def store(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path / "store")
    cli("init")
    return cli


def umoci_image(directory: Path, changes: tuple[Change, ...]) -> Path:
    """A layer for each change, made by `umoci repack`."""
    image = directory / "image"
    run("umoci", "init", "--layout", image)
    run("umoci", "new", "--image", f"{image}:it")
    for number, change in enumerate(changes):
        bundle = directory / f"bundle{number}"
        run("umoci", "unpack", "--image", f"{image}:it", bundle)
        change(bundle / "rootfs")
        run("umoci", "repack", "--image", f"{image}:it", bundle)
    return image


def same(store: Cli, image: Path, source: Path, directory: Path, ignore: frozenset[str] = frozenset()) -> list[str]:
    """How the imported image differs from what umoci unpacks."""
    run("umoci", "unpack", "--image", f"{image}:it", directory / "expected")
    store("import", str(source))
    store("export", "main", str(directory / "found"))
    store("fsck")
    return differences(directory / "found", directory / "expected/rootfs", ignore=ignore)


# umoci fills holes, and unpacks the time of the top directory after all else.
_UMOCI = frozenset({"extents"})


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_umoci(store: Cli, tmp_path: Path, kind: str) -> None:
    image = umoci_image(tmp_path, KINDS[kind])
    assert same(store, image, image, tmp_path, _UMOCI) == []
    assert len(store.json("log", "main")) == len(KINDS[kind])


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_the_same_as_archives_of_skopeo(store: Cli, tmp_path: Path, form: str) -> None:
    image = umoci_image(tmp_path, KINDS["many layers"])
    archive = tmp_path / "image.tar"
    run("skopeo", "copy", "--quiet", f"oci:{image}:it", f"{form}:{archive}:it:1")
    assert same(store, image, archive, tmp_path, _UMOCI) == []


def test_layers_that_no_tool_writes(store: Cli, tmp_path: Path) -> None:
    """An opaque directory, a whiteout behind what it hides, and a hard link to a file of the layer below."""
    image = umoci_image(tmp_path, (_base,))
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        for name, kind, target in (
            ("etc", tarfile.DIRTYPE, ""),
            ("etc/conf.d", tarfile.DIRTYPE, ""),
            ("etc/conf.d/.wh..wh..opq", tarfile.REGTYPE, ""),
            ("etc/conf.d/three", tarfile.REGTYPE, ""),
            ("etc/.wh.motd", tarfile.REGTYPE, ""),
            ("usr", tarfile.DIRTYPE, ""),
            ("usr/tool3", tarfile.LNKTYPE, "bin/tool"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o755
            archive.addfile(member)
    run("umoci", "raw", "add-layer", "--image", f"{image}:it", layer)
    assert same(store, image, image, tmp_path, _UMOCI) == []
    assert store.lines("ls", "main:/etc/conf.d") == ["three"]


def test_an_image_of_buildah(store: Cli, tmp_path: Path) -> None:
    """Its layers are those of the kernel's or vfs's differences; built on two commits, with a deletion between."""
    base = tmp_path / "base"
    _base(base)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STORAGE_DRIVER": "vfs",
        "BUILDAH_ISOLATION": "chroot",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    where = ["--root", str(tmp_path / "storage"), "--runroot", str(tmp_path / "run")]

    def buildah(*arguments: str | Path) -> str:
        return run("buildah", *where, *arguments, env=env).strip()

    container = buildah("from", "scratch")
    buildah("add", container, base, "/")
    buildah("config", "--cmd", "/bin/tool", "--env", "A=1", container)
    buildah("commit", "--quiet", container, "first")
    buildah("rm", container)
    second = buildah("from", "--pull-never", "first")
    mounted = Path(buildah("mount", second))
    (mounted / "etc/conf.d/one").unlink()
    shutil.rmtree(mounted / "usr/share")
    _capabilities(mounted)
    buildah("umount", second)
    buildah("commit", "--quiet", second, f"oci:{tmp_path / 'image'}:it")
    buildah("rm", second)
    image = tmp_path / "image"
    assert same(store, image, image, tmp_path, _UMOCI) == []
    assert store.json("show", "main")["config"]["config"]["Env"] == ["A=1"]
