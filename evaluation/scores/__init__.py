"""The scores, by name: `make_score`."""
