"""Admission: what the API server adds to or refuses of a request, one file per plugin."""
