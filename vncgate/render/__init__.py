"""Renderers: values in, text out. They touch no file and no clock."""
