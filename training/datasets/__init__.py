"""One reader for each data set, in its official layout; training and evaluation read through the same ones."""
