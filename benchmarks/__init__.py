"""Side-by-side measurements: the same work by Treering and by other tools, in one run, interleaved.

    __main__   the command line           setting   what every section is given: corpora, peers, places
    corpora/   what is worked on          peers/    the tools, one class each
    sections/  what is measured           measure   clocks, caches, memory
    launch     runs a measured command    report    tables as Markdown, JSON
    inside     programs in a root         plot      the same as a picture
    pairs      two ways, in turns         residency page cache, memory, descriptors

A section is a function from a Setting to tables; a peer is a class with a small interface; a corpus is a function that
fills a directory. Adding any of them touches one module, and the list that names it.

Rules, with their reasons in docs/benchmarks.md: medians of rounds in which every peer takes its turn; a clock stops
when the data is on the disk; many files are deleted at the end of the run only; a peer that is not installed, or cannot
do something, is named with the reason.
"""
