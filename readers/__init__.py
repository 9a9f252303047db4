"""Read each dataset in its official layout: the same readers serve training, evaluation and curation."""
