"""The kernel's control groups, of containers: what they use, what they may use, and whether they stand still.

    group      one container's cgroup: found, measured, limited, frozen
    places     where cgroups lie: v1, hybrid, v2, seen from inside a namespace      parsing    files -> values; pure
    limits     what is written to limit one                                          freezing   stopping all of one
    processes  the same measures without a cgroup, from /proc: an ordinary user's containers have none

One rule: that there are two versions of cgroups, and what their files are called, is known here and nowhere else.
"""

from runtime.cgroups.group import Cgroup, NoCgroup
from runtime.cgroups.parsing import Usage
from runtime.cgroups.places import Hierarchies

__all__ = ["Cgroup", "Hierarchies", "NoCgroup", "Usage"]
