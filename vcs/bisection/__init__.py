"""Looking for the commit that broke something: which one to test next, and what is known so far.

    span      the commits among which it is, and what a verdict leaves of them     (pure)
    midpoint  the one to test next, and what can be said when there is none        (pure)
    notebook  the verdicts so far: a file of the store
    session   verdicts given, one process at a time, and their commits kept from gc

A verdict on a commit is good, bad or skip. What is looked for is the first bad commit: one that is bad, and whose
parents are good, or ancestors of good commits. Nothing here runs anything: that is runtime.branches.bisecting's.
"""
