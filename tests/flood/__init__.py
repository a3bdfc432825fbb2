"""A store under a flood: many processes that do everything at once and kill one another, and numbers that are large.

    contents     files whose names tell their bytes, so that any tree of them can be checked
    place        the directory of a flood: the store, the ledger, the findings, who runs what just now
    command      a `treering` command, of which it is known how it ended
    processes    the processes of a flood: found, measured, killed, asked where they stand
    worker       one of the processes: acts by chance, and writes down what was acknowledged
    storm        all of them, for so many seconds
    verdict      what must be so afterwards, and that nothing is left
    broken       variants of the program with a fault, to see that it is noticed
    scale/       very many containers, branches, commits, names; very long paths and very deep trees

`python -m tests.flood --help` says how to run it; docs/reliability.md what it promises. It needs root.
"""
