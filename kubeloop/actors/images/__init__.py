"""Images on a node: what to pull, when to try again, what to delete. Pure."""
