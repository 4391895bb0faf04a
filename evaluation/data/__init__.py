"""Images, embeddings, labels and classes from outside; the sealed test, and the checks before it is opened."""
