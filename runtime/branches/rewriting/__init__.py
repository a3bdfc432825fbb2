"""The commits of a branch, written again.

    line     which commits of a branch are meant, and which containers stay on the old ones
    rebase   one after the other, on another commit
    squash   all in one

A branch moves once, when everything is written; before that, nothing refers to what was.
"""
