"""Private keys, tokens and credentials among what a commit adds: found, named, and refused if that is wished.

    patterns    what counts as a secret, and how it is found in bytes
    watch       looks at what is read on its way into the store, and says in which files it was
    policy      whether to warn, to refuse, or not to look; where a store says so

One rule: what was found is named by path and kind. The secret itself is in no message, error or log.
"""

from runtime.secrets.policy import POLICIES, Policy, policy_of
from runtime.secrets.watch import Finding, SecretWatch

__all__ = ["POLICIES", "Finding", "Policy", "SecretWatch", "policy_of"]
