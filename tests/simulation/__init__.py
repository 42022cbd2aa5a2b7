"""A whole station under a seed: the product's own threads, records and connections in one process.

Time, disk, broker, camera, PLC and people are in the simulation's hand; see docs/reliability.md.
"""
