"""Capability study: known parts through the station's own inspection, again and again."""
