"""What a network costs and what it does: operations, memory, agreement, and where tokens leave."""
