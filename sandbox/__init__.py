"""A Telnyx that lives on this machine. It knows none of the other rooms, like a true peer."""
