"""Which node a pod goes to: pure, incremental, in Kubernetes' own words."""
