"""What the model is asked: the chat template and the phrasings of the questions."""
