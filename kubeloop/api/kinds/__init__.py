"""The kinds that are built in, as rows of data: a module per group."""
