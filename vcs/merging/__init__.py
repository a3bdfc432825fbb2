"""Three-way merges of roots: what two sides did to a common base, in one root.

    walk        both sides walked at once, as far as they differ    values      what a merge is made of, and comes to
    attributes  mode, owner, times, extended attributes             hardlinks   names of one file stay names of one file
    text        lines                                               records     files of named records
    drivers     which files are more than text                      config      the image config, by key
    edits       a root with what is at some paths replaced      beside      both sides of a conflict, beside each other

docs/merging.md has the rules. The one that stands above all: what either side did to the base is in the result, or
it is listed as a conflict.
"""

from vcs.merging.beside import Beside, lay_beside
from vcs.merging.config import merge_configs
from vcs.merging.text import markers
from vcs.merging.values import Favour, Labels, MergeConflict, Stale
from vcs.merging.walk import Merge, merge_roots

__all__ = [
    "Beside",
    "Favour",
    "Labels",
    "Merge",
    "MergeConflict",
    "Stale",
    "lay_beside",
    "markers",
    "merge_configs",
    "merge_roots",
]
