"""Rows of a table into a class or a quantity: an MLP behind encodings of its columns."""

from modelhub.recipes.tabular.recipe import Tabular

__all__ = ["Tabular"]
