"""Chat template, and the phrasings of prompts for training."""
