"""The page at the station and the numbers behind it.

The page is served by a process of its own, which the station starts and which runs at a lower
priority: no request, however many or malformed, takes the interpreter or the memory of the process
that decides. ``page`` is the station's end of the link between the two and imports nothing slow;
everything below ``process`` runs in the other one.
"""
