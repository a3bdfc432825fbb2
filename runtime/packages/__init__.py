"""Which packages a root holds, which come, go and change between two, and which files belong to them.

    model       a package, and what becomes of packages          versions    which of two is the older
    deb, apk    dpkg's and apk's databases: paragraphs           rpm         rpm's database: SQLite, and headers in it
    databases   where those lie in a root, and what they say
    pypi, npm, gem   what lies anywhere: recognised by its place  places     the search for it, in one root or in two
    inventory   everything in a root; what differs between two
    owners      which package a file belongs to                  unexplained changed files that no package explains
    report      both of two states, also of a container's

Kinds are named as in package URLs (purl). Only what is installed counts: a package of which dpkg has kept nothing but
the configuration does not.

One rule: what a root holds is never trusted. What of a database cannot be understood is left out and told in a note;
nothing here raises for it. Missing and Corrupt, for what the store has lost, come as they are.
"""

from runtime.packages.inventory import Inventory, changes, database_chunks, inventory, packages
from runtime.packages.model import Kind, Owner, Package, PackageChange, PackageChanges, Packages
from runtime.packages.versions import deb_order

__all__ = [
    "Inventory",
    "Kind",
    "Owner",
    "Package",
    "PackageChange",
    "PackageChanges",
    "Packages",
    "changes",
    "database_chunks",
    "deb_order",
    "inventory",
    "packages",
]
