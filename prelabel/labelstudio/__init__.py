"""Everything that knows Label Studio's formats."""
