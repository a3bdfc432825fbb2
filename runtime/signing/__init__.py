"""Signatures of commits and tags with SSH keys, in git's format: `git verify-commit` understands them.

    settings    what git's config says: whether to sign, with which key, and whose keys are whose
    keygen      one signature made, or checked, by OpenSSH's ssh-keygen
    verdict     what a commit's or a tag's signature is worth

One rule: no cryptography of our own, and no key is read here. ssh-keygen does it, with keys in files or in an agent.
"""
