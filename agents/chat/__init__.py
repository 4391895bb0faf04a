"""Chat models: asked at a pace, recorded, replayed, reviewed."""
