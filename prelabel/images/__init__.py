"""Pictures: fetched, checked against limits, and decoded."""
