"""What all tests share: property tests draw the same examples on every machine."""

from hypothesis import settings

settings.register_profile("same_everywhere", derandomize=True, deadline=None, database=None)
settings.load_profile("same_everywhere")
