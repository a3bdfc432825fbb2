"""Settings of all tests.

Hypothesis draws the same examples in every run, so that a failure is the change's and can be seen again;
`pytest --hypothesis-profile=explore` draws new ones. A busy machine is no failure, so examples have no deadline.
"""

from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("same")
