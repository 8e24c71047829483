"""The documentation: its pages, and the programs that generate parts of them."""
