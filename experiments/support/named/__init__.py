"""One word names a model: where its weights lie, how they are read, what its tokens are."""
