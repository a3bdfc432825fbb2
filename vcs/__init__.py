"""Treering's store: content in layers, directories as trees, history in git.

    values       model      entries and what they hold           encoding   their canonical bytes and digests
                 errors     everything that is raised on purpose
    objects      trees      directories as objects               blobs      file contents as objects
                 tree_edit  a tree with names changed, at the cost of the change
                 blobreader ranges of files' contents
                 layers/    the files that hold objects          index      where each object lies
                 objects    reading them, verified               ahead      blocks decompressed before they are needed
                 scratch    a sink that keeps nothing
    the store    store      all of it, opened                    batch      objects on their way into it
                 history    commits, branches, tags; with
                 names      branches and tags, one at a time     ancestry   which commits are whose ancestors
                 packing    which of git's objects are needed     reflogs    their files: both for gc
                 gitobjects any git object by its id              gitfiles   its checksums, and packed-refs
                 gitwords   how it writes names and people       signed     signatures in commits and tags
                 gitrefs    a ref moved by git's library          loose      its loose objects, without a library
                 notes      texts on commits, added later
                 operations what commands did to all of it        operationlines   how that is written
                 takingback what of it is taken back, and how
                 keptreflogs   of the refs that they deleted      past       the store as it was after one of them
                 profiles   what containers read when they start
                 plain      files as they are, outside of layers    plainwriter   made, and mended
                 cachefiles what such files have in common
                 snapshot   the read interface, the only one that fusefs sees
    in and out   importer   a directory -> a root                exporter   a root -> a directory
                 importframe   one directory of an import        importcache   what the last import saw
                 importlinks   hard links between names that stay and names that are read
                 importresult  what an import made
                 livedir    directories of the host, held open   reading    one name in them -> an entry
                 extents    where a sparse file has data
                 ignore     names that are left out
                 tar/       the format                           tar_import, tar_export   archives -> roots -> archives
                 tar_members  entries -> members              layer_export   two roots -> an image layer
                 madelayers which layers were made already
                 assembly   names in any order -> a tree         decompress   gzip, bzip2, xz, zstd
                 layer_import, layer_assembly   an image's layer and the root below -> a root
                 attributes what is kept of a live file          links      hard links
                 ticks      changes that no time stamp tells     progress   how far it has come
    the disk     durable    what survives a power cut            existing   what is there, told by those who could look
                 locks      what a killed process cannot leave behind
                 leases     what running writers rely on, so that gc does not remove it
                 warming    a file read ahead that is open      heap       memory that is used again
                 stillborn  threads that there is too little memory for
                 shortage   too little memory, told apart from damage
                 seal       by which a byte of the index that has changed is noticed
                 indexfile  the database of the index     indexcopy  one that cannot be written, in memory
                 indexerrors   what kept SQLite from its work
    garbage      collect/   what nothing needs goes               reach      what is needed
                 retention  which commits a branch keeps          rewriting  the others are taken out of a history
    sizes        usage      what takes how much                   sharing    who needs each object
    together     merging/   what two sides did to a base, in one root
    questions    diff       what differs between two roots       pairing    what is new, and where it came from
                 similarity files that are alike                  check/     whether everything is there and whole
                 repair/    what is not, restored from elsewhere
                 commits    read quickly, newest first           commitlog  which of them are wanted
                 blame      which commit last wrote what         grep       lines that match a pattern
                 texts      what is a text, and its lines
                 bisection/ which commit to test next, to find the one that broke something
    for tests    testing    a store in memory

One rule: a module here never prints, never reads the environment and never exits.
"""
