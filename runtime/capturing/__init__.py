"""What is in a container, read as it was at one moment.

capture      a state, at rest or of a container that runs
standstill   a container frozen, and let go on whatever becomes of us
openfiles    what may be written without anybody being told
staging      what is read meanwhile, in memory
"""
