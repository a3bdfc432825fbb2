"""A bisection whose verdicts are lost is ended: nothing else depends on them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from vcs.bisection import notebook
from vcs.bisection.notebook import Notebook
from vcs.errors import Corrupt
from vcs.gitobjects import GitObjects, translated
from vcs.packing import has_object


def mend_bisection(store: Path) -> list[str]:
    """End the bisection of the store at a path if its file, read again, is damaged, or if a commit that it has a
    verdict on is not there; returns what was done. OSError if that cannot be told."""
    try:
        found = notebook.load(store)
    except Corrupt:
        notebook.remove(store)
        return ["the bisection was ended, since its verdicts are not as they were written"]
    if found is None or _has_all(found, store / "history.git"):
        return []
    notebook.remove(store)
    return ["the bisection was ended, since a commit that it has a verdict on is lost"]


def _has_all(found: Notebook, repository: Path) -> bool:
    with translated(), closing(GitObjects(repository)) as objects:
        return all(has_object(objects, repository / "objects", mark.commit) for mark in found.marks)
