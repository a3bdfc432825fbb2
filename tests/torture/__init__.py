"""Whole commands, killed or failed at each of their calls to the kernel that change something.

    tracer       a command in a process that stops at such calls, where it goes on, dies or gets an error
    calls        which calls those are
    processes    processes of commands, found and ended
    operations   the commands, each with the small store that it is run on
    running      more of them: what starts, ends or reads containers that run
    remotes      and what speaks to a registry
    leftovers    what containers leave on the machine
    stores       such a store: made, set back, told apart, read
    pressure     in place of a strike: too little memory, or too few descriptors, for all of it
    points       at which calls
    sweep        strike at the first call, the second and so on, and look at what is left each time
    broken       variants of the program with a fault, to see that it is noticed

`python -m tests.torture --help` says how to run it; docs/reliability.md what it promises. It needs root on x86-64.

One rule: whoever runs commands forks, so it has one thread and no store open. So tests start it as a process.
"""
