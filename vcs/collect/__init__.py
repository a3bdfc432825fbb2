"""Garbage collection: what nothing needs goes, while others read and write. docs/concurrency.md says how.

collection  the steps, in the order that makes it safe
plan        which layers go, and which are worth rewriting or merging; pure
pulls       what interrupted pulls left goes
copying     what is needed, out of those into new ones, verified
repack      the same for everything, ordered by resemblance and compressed hard
"""

from vcs.collect.collection import Collected, Collection, collect
from vcs.collect.copying import Compaction, Doomed, LayerSink, Strategy, copy_layer

__all__ = ["Collected", "Collection", "Compaction", "Doomed", "LayerSink", "Strategy", "collect", "copy_layer"]
