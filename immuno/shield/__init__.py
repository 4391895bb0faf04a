"""Deploying: the shield with its encoder, how it is exported and kept, and the service. `shield` is what users load."""
