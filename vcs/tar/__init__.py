"""The tar format, read strictly and written deterministically. Nothing here touches a file system or a store.

    stream     bytes in order from something that cannot seek, and where in it we are
    block      the 512-byte header and its numbers        pax     extended headers
    sparse     the maps of files with holes (four kinds)  acl     POSIX ACLs as text
    reader     an archive -> members and their data       writer  members and their data -> an archive

Sources: POSIX.1-2017 pax(1) "ustar Interchange Format" and "pax Extended Header"; GNU tar's manual, "Basic Tar Format",
"Storing Sparse Files" and "Control Headers"; libarchive's tar(5).

One rule: whatever the bytes are, the only error that leaves the reader is BadInput.
"""
