"""Processes beside the station, and the links to them."""
