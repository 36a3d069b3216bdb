"""Training a model against attack."""
