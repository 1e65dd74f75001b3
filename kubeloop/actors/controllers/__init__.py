"""Pure reconcilers, one file per controller."""
