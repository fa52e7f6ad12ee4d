"""curhat_trio: a WebRTC signaling server that introduces two strangers to each other."""

__version__ = "0.1.0"
