"""Whole commands, killed or failed at each of their calls to the kernel that change something.

    tracer       a command in a process that stops at such calls, where it goes on, dies or gets an error
    calls        which calls those are
    operations   the commands, each with the small store that it is run on
    stores       such a store: made, set back, told apart, read
    sweep        strike at the first call, the second and so on, and look at what is left each time
    broken       variants of the program with a fault, to see that it is noticed

`python -m tests.torture --help` says how to run it; docs/reliability.md what it promises. It needs root on x86-64.

One rule: whoever traces has one thread, no store open, and no child but the command. So tests start it as a process.
"""
