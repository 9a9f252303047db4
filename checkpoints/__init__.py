"""The checkpoints that come with the package; `Tracker.from_pretrained` finds them by their folder's name."""
