"""What a person types. No logic of its own: each command calls the room that knows."""
