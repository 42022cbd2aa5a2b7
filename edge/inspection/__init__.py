"""Pure inspection: prepared picture to decision. No threads, no I/O."""
