"""edge-listen: every verdict of every station, once, in a table; for MES people."""
