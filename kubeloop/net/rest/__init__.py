"""The aiohttp endpoint that real Kubernetes clients talk to."""
