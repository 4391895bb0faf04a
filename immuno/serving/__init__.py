"""What every server of ours shares: where it listens, and who may ask."""
