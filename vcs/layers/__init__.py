"""Layers: the immutable files that hold objects.

format   the bytes: header, block table, object table, trailer (no I/O)
compression  how many objects share a block, and how hard it is compressed
writer   objects in, one durable layer file out
reader   objects out of a layer file
parts    parts of objects out of a layer file
"""
