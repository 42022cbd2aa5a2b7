"""The station's end of a roll-out: fetch, verify, put in force, report."""
