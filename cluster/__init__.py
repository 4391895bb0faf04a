"""Ray: encoders, embedding actors, shards and their store. The only room that runs models over images."""
