"""The truth: one append-only log of facts and the multi-version index over it."""
