"""Prompts: parse them, resolve their phrases to labels, plan a task's searches, store them."""
