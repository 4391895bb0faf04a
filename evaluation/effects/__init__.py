"""Boundary effects: what an antibody, or a whole bank, changes on held-out images; and how alike two are."""
