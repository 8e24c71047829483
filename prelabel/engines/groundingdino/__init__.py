"""The engine on groundingdino-py."""
