"""Phrasings of prompts for training, and the text of the chat template."""
