"""Ray: a cluster, its actors, and the work they are given."""
