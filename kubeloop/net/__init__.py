"""The wire: REST endpoint, proxy data paths, registry, client."""
