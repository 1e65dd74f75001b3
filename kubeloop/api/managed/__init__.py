"""Who manages which field: metadata.managedFields, and server-side apply on top of them. Pure.

    sets       sets of fields, in the form managedFields have
    shapes     what the fields of a kind are: which lists have keys, what is replaced as a whole
    comparing  which fields a write touched and removed; which ones a configuration names
    merging    a configuration into an object; fields out of an object
    managers   what a write does to the managers, with the conflicts of an apply
    applying   an apply: merge, give up, prune; the way from client-side apply

Source: Kubernetes, "Server-Side Apply"; KEP-555; the behaviour of structured-merge-diff.
"""
