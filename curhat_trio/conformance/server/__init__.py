"""A server under test: the kit is its clients.

The vectors of spec/vectors come first, then random conversations whose outcome a reference server tells.
"""
