"""What stands in the cells of `kubectl get`; one module per family of kinds.

A row function takes an object and the time, and returns the cells in the order of `columns.json`.

Source: k8s.io/kubernetes/pkg/printers/internalversion.
"""
