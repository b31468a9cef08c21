"""`scd bench`: networks side by side, their speed, memory and cost, and how these grow with the work."""
