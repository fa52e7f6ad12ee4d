"""A client under test: the kit is its server, and the peer at the other end of its calls."""
