"""A small Django project of somebody else, whose requests are counted."""
