"""The OPC UA server, a process of its own; the station knows its messages alone."""
