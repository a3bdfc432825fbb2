"""Treering's store: content in layers, directories as trees, history in git.

    model      the values: entries and what they hold
    encoding   their canonical bytes and digests
    trees      directories as objects        blobs   file contents as objects
    layers/    the files that hold objects   index   where each object lies   objects   reading them
    store      all of it, opened             history commits, branches and tags (the only importer of pygit2)
    snapshot   the read interface, the only one that fusefs sees
    importer, tar, exporter, diff, check     what is done with it

One rule: a module here never prints, never reads the environment and never exits.
"""
