"""Images of the world: what Docker, Podman and registries give and take.

    model      descriptors, manifests, indexes, configs: the documents of an image, read strictly
    blobs      content by its digest: checked as it is read, written aside and renamed
    layout     an OCI image layout, as a directory
    archive    an image in a tar archive, read in place
    choosing   which image of several: by name, and by platform
    image      one that can be read, wherever it is
    opening    a directory, a file or a stream -> the image in it
    steps      its history -> what its commits say
    importing  its layers -> roots and commits
    remote     what a registry says that a reference names
    pulling    an image in a registry, read while it arrives
    skopeo     what talks to registries
    chains     which roots are known of which layers

Images out, of commits:

    compression  layers compressed, the same bytes every time
    made         layers made of two roots, once
    composing    commits -> layers, history, config and manifest
    references   what images are called
    writing      an image that was made -> a layout or an archive
    pushing      -> a registry

Sources: the OCI image specification 1.1 (descriptor.md, manifest.md, image-index.md, config.md, image-layout.md), and
Docker's image manifest version 2, schema 2, whose documents differ in their media types only.

One rule: what an image says is never trusted. Whatever is wrong with it is one BadInput that names the document.
"""
