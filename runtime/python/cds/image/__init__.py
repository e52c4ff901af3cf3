"""Startup images: how an image is taken, and what restored processes do."""
