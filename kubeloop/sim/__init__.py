"""The world that can be wound back: virtual time, in-memory network and disk."""
