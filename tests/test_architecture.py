"""The structure that the documentation promises, held by a machine."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PACKAGES = ("vcs", "fusefs", "runtime")
MODULES = sorted(path for package in PACKAGES for path in (TOP / package).rglob("*.py"))
LONGEST = 450
HELPER_DRAWERS = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}


def test_dependencies_point_one_way() -> None:
    """What import-linter is told in pyproject.toml."""
    tool = Path(sys.executable).parent / "lint-imports"
    found = subprocess.run([tool, "--no-cache"], cwd=TOP, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def relative(path: Path) -> str:
    return str(path.relative_to(TOP))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_says_what_it_is_and_is_not_too_long(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert path.name not in HELPER_DRAWERS


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=relative)
def test_a_package_opens_with_its_map(path: Path) -> None:
    """Each module of a package is named in the docstring of its `__init__`."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    names = {other.stem for other in path.parent.glob("*.py")} - {"__init__", "__main__"}
    names |= {other.parent.name for other in path.parent.glob("*/__init__.py")}
    unnamed = sorted(name for name in names if name not in docstring and not name.startswith("render_"))
    assert not unnamed


@pytest.mark.parametrize("path", [path for path in MODULES if "cli" not in path.parts], ids=relative)
def test_libraries_do_not_print_read_the_environment_or_exit(path: Path) -> None:
    module = ast.parse(path.read_text())
    # A module that is a process of its own ends with the usual two lines, and they may exit.
    module.body = [
        node for node in module.body if not (isinstance(node, ast.If) and "__main__" in ast.unparse(node.test))
    ]
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "input", "sys.exit", "exit", "quit"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("os.environ", "os.getenv"), f"line {node.lineno}"


@pytest.mark.parametrize("path", [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))], ids=relative)
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), target
