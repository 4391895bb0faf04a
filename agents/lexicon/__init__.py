"""The lexicon: a chat model that is not a language model, but a deterministic combiner of words."""
