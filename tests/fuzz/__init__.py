"""Every parser of bytes that come from elsewhere, fuzzed: docs/fuzzing.md.

target      what a target is, and edits of an input
archives    tar, layers of images, compressed streams, ACLs
images      documents and archives of images, image configs
stores      what a store keeps: layer files, trees, records, logs
words       Dockerfiles, patterns, options, attributes of overlayfs
packages    the databases of package managers
machine     what the kernel and other processes of ours say
catalogue   all targets
one         a process that fuzzes one target, guided by coverage where atheris is installed
__main__    the long run over many targets
test_fuzz   the short run of `make test`
"""
