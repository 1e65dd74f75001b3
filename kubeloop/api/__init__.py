"""The language of Kubernetes: pure functions and tables; imports nothing else of ours."""
