"""The engine on groundingdino-py: config, network, weights and attention."""
