"""Pure inspection: prepared image to decision. No threads, no I/O."""
