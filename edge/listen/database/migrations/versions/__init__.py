"""The revisions, oldest first; one that was published is never changed."""
