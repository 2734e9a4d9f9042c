"""Chaining-cluster, Algorithm 1 of [SCC]: thresholds, gender clusters, identity clusters, the step."""
