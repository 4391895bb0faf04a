"""A chat server beside the embedding actors."""
