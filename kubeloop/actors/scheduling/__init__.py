"""The scheduler's pure core: filters, scores, queue."""
