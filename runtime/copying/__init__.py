"""Files copied between the machine and a container, or out of a commit.

    item       one name on its way: attributes, and how to get its data
    trees      a directory or file that is there -> items          commits    one of a commit -> items
    archives   a tar archive -> items, and items -> a tar archive
    target     items -> names below a directory                    placing    new files -> their names
    places     Docker's rules: what SOURCE and TARGET mean, and what the copy is called
    merged     a container's root, whether it runs or not

One rule: a container's paths are only ever looked up by the kernel in the container's own root (openat2(2)), and what
was found is held by a descriptor: whatever the container does to its links meanwhile, nothing outside is read or
written. There is no moment between a check and a use.
"""
