"""What a store does about secrets: `git config treering.secrets` of its history, or the user's."""

from __future__ import annotations

from typing import Literal, get_args

from vcs.errors import BadInput
from vcs.history import History

Policy = Literal["warn", "refuse", "off"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
SETTING = "treering.secrets"


def policy_of(history: History) -> Policy:
    """What is set; to warn, if nothing is. BadInput if it is none of the three."""
    value = history.setting(SETTING)
    for policy in POLICIES:
        if value == policy:
            return policy
    if value is None:
        return "warn"
    raise BadInput(f"{SETTING} is {value!r}; it can be {', '.join(POLICIES)}", setting=SETTING, value=value)
