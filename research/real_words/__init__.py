"""Measure a model on real still photographs by everyday words."""
