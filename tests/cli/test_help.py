"""Every verb explains itself, and the reference is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runtime import __version__
from runtime.cli.program import VERBS, program
from runtime.cli.reference import reference

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(program, [name, "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.output
    assert f"treering {name}" in result.output.split("Example:")[1]


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_explained(name: str) -> None:
    command = program.get_command(click.Context(program), name)
    assert command is not None
    assert command.help
    assert command.help.startswith(f"{command.short_help}\n"), "the list of verbs shows the first line of the help"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_verbs_are_listed_without_importing_them() -> None:
    probe = "import sys; from runtime.cli.program import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert all(f"  {name} " in result.stdout for name in VERBS)
    loaded = set(result.stderr.split())
    assert not loaded & {"pygit2", "msgspec", "zstandard", "sqlite3", "runtime.cli.history", "vcs.store"}


def test_version_imports_nothing() -> None:
    probe = (
        "import sys; sys.argv = ['treering', '--version']; from runtime.cli import main; main();"
        "print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert result.stdout == f"treering {__version__}\n"
    assert "click" not in result.stderr.split()


def test_a_wrong_verb_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(program, ["comit"])
    assert result.exit_code == 2
    assert "do you mean 'commit'?" in result.stderr


def test_no_verb_shows_the_help() -> None:
    result = CliRunner().invoke(program, [])
    assert result.exit_code == 2
    assert "Usage: treering" in result.stderr


def test_the_reference_is_up_to_date() -> None:
    """If this fails: python -m runtime.cli.reference > docs/cli.md"""
    assert (PROJECT / "docs/cli.md").read_text() == reference()
