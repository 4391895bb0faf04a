"""Antibodies as texts and vectors: files, wording, negative selection, maturation, mining."""
