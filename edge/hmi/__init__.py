"""The page at the station and the numbers behind it.

The page is served by a process of its own, which the station starts and which runs at a lower
priority: no request, however many or malformed, takes the interpreter or the memory of the process
that decides. ``station_end`` is the station's end of the link between the two and ``server`` the
page's; ``messages`` is what they exchange, ``contents`` and ``actions`` what the messages hold.
"""
