"""The checkpoint that comes with the package; `Tracker.from_pretrained` finds it by its folder's name."""
