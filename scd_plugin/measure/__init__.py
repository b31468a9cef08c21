"""Measures a network: operations, memory, agreement with a dense one, and where tokens leave."""
