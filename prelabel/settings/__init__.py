"""The settings of the application and the variables of its environment."""
