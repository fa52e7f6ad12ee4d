"""The language and the law of `curhat.v1`: pure values and pure functions.

Nothing in this package knows a clock, a random number, a socket, a log or Trio. Time and identifiers
arrive inside events; what should happen leaves as effects.
"""
