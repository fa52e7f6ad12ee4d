"""The conformance kit: does a server, or a client, do what spec/protocol.md says?

`curhat-trio conform ws://HOST/ws` is a client that tries a server, `curhat-trio conform --listen PORT` a server
that tries a client. Both see the other side from outside only, and report by requirement. Nothing here imports
the server.
"""
