"""What is done with branches and all that stands on them, containers among it.

merging      branches brought together: merge, revert, cherry-pick
resolving    merges that wait in a container, for conflicts to be settled
rewriting/   commits of a branch written again: rebase, squash
stashes      changes of containers put aside, and brought back
forgetting   old commits, with all that stands on them
bisecting    a command says which commits are good, in a container on each
undoing      what a command did, taken back
"""
