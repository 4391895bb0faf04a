"""What the chat model is told."""
