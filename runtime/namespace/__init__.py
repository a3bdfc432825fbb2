"""An ordinary user's own namespaces, in which he is root over the ids that /etc/subuid and /etc/subgid give him.

    mapping   which ids those are, and whether this process is in a user namespace
    needs     what a machine must have for it, and what to say where it has not
    keeper    the process that holds a store's namespaces while anybody is in them
    door      the way in: finding the keeper, starting it, joining it

One rule: how namespaces are made and entered is known here alone. Whoever else behaves differently in them (the
overlay, the bundle, the engine) asks `in_user_namespace()` and nothing more. docs/rootless.md has the whole picture.
"""

from fusefs.rights import in_user_namespace

__all__ = ["in_user_namespace"]
