"""A root in which dpkg, apt and pip run without a network: the machine's programs, with the libraries they need."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

from tests.support.busybox_root import make_busybox_root

_PROGRAMS = (
    "/usr/bin/apt-get", "/usr/bin/dpkg", "/usr/bin/dpkg-deb", "/usr/bin/dpkg-split", "/usr/bin/dpkg-query",
    "/usr/bin/apt-config", "/usr/bin/tar", "/usr/sbin/ldconfig", "/usr/sbin/start-stop-daemon", "/usr/bin/rm",
    "/usr/bin/diff", "/usr/bin/dash",
)  # fmt: skip
_PYTHON = Path("/usr/bin/python3")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "test", "tests", "dist-packages", "idlelib", "lib2to3", "config-*")


def make_debian_root(path: Path) -> Path:
    """Make such a root at `path`."""
    make_busybox_root(path)
    for name in _PROGRAMS:
        if Path(name).exists():
            _copy_program(path, Path(name))
    (path / "bin/sh").unlink()  # busybox's would take its own dpkg and tar for ours
    (path / "bin/sh").symlink_to("/usr/bin/dash")
    shutil.copytree("/usr/share/dpkg", path / "usr/share/dpkg")
    for method in ("file", "copy", "store", "mirror"):
        if (program := Path("/usr/lib/apt/methods") / method).exists():
            _copy_program(path, program)
    for name in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/apt/lists/partial",
                 "var/cache/apt/archives/partial",
                 "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d", "etc/apt/trusted.gpg.d",
                 "var/log/apt", "etc/dpkg/dpkg.cfg.d", "var/tmp", "run"):  # fmt: skip
        (path / name).mkdir(parents=True, exist_ok=True)
    for name in ("status", "available"):
        (path / "var/lib/dpkg" / name).touch()
    (path / "etc/apt/apt.conf.d/tests").write_text('APT::Sandbox::User "root";\nDir::Log::Terminal "";\n')
    _copy_python(path)
    return path


def _copy_program(root: Path, program: Path) -> None:
    target = root / str(program)[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy2(program.resolve(), target)
    _copy_libraries(root, program)


def _copy_libraries(root: Path, program: Path) -> None:
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=False, timeout=60).stdout
    for library in re.findall(r"(/\S+) \(0x", found):
        target = root / library[1:]
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(library).resolve(), target)


def _copy_python(root: Path) -> None:
    program = _PYTHON.resolve()
    _copy_program(root, program)
    (root / "usr/bin/python3").symlink_to(program.name)
    version = subprocess.run(
        [program, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    library = Path("/usr/lib") / version
    shutil.copytree(library, root / str(library)[1:], ignore=_LEFT_OUT, symlinks=True, dirs_exist_ok=True)
    for module in (library / "lib-dynload").glob("*.so"):
        _copy_libraries(root, module)
    import pip

    shutil.copytree(Path(pip.__file__).parent, root / "usr/lib/python3/dist-packages/pip", ignore=_LEFT_OUT)
    if _CERTIFICATES.exists():  # Debian's pip reads them when it is imported
        (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
        shutil.copy2(_CERTIFICATES, root / "etc/ssl/certs")


def make_deb(directory: Path, name: str, files: dict[str, str], depends: str = "", script: str = "") -> Path:
    """A binary package, built by dpkg-deb."""
    top = directory / f"{name}.d"
    (top / "DEBIAN").mkdir(parents=True)
    lines = [f"Package: {name}", "Version: 1.0", "Architecture: all", "Maintainer: Ada <ada@example.org>"]
    lines += [f"Depends: {depends}"] if depends else []
    (top / "DEBIAN/control").write_text("\n".join([*lines, "Description: a test", ""]))
    if script:
        (top / "DEBIAN/postinst").write_text(script)
        (top / "DEBIAN/postinst").chmod(0o755)
    for path, text in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
        (top / path).chmod(0o755 if text.startswith("#!") else 0o644)
    deb = directory / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", top, deb], check=True, capture_output=True,
                   timeout=60)  # fmt: skip
    shutil.rmtree(top)
    return deb


def make_repository(directory: Path, debs: list[Path]) -> None:
    """A flat repository for `deb [trusted=yes] file:DIRECTORY ./`."""
    paragraphs = []
    for deb in debs:
        control = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True, text=True, timeout=60).stdout
        digest = subprocess.run(
            ["sha256sum", deb], check=True, capture_output=True, text=True, timeout=60
        ).stdout.split()[0]
        paragraphs.append(f"{control.strip()}\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n")
    (directory / "Packages").write_text("\n".join(paragraphs))


def make_wheel(directory: Path, name: str) -> Path:
    """A pure wheel with one module and a command."""
    wheel = directory / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": "def main():\n    print('hello')\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
        record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
        archive.writestr(zipfile.ZipInfo(f"{about}/RECORD", (2020, 1, 1, 0, 0, 0)), record)
    return wheel


def make_tar(path: Path, members: dict[str, str], mode: Literal["w", "w:gz", "w:xz"]) -> Path:
    """An archive of files of user 7 and group 8."""
    with tarfile.open(path, mode) as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mode, info.mtime = len(text), 7, 8, 0o640, 1_600_000_000
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


__all__ = ["make_deb", "make_debian_root", "make_repository", "make_tar", "make_wheel"]
