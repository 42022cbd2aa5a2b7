"""The published JSON Schemas of every payload, one file each."""
