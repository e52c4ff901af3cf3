"""Startup images: how one is taken, and what restored processes do."""
