"""Recipes: products as a station inspects them, kept in versions in a folder."""
