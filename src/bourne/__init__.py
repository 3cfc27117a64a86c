"""Bourne."""
