"""The conformance kit: tests whether a server, or a client, follows spec/protocol.md.

`server/` is for a server under test: the kit is its clients. `client/` is for a client under test: the kit is its
server, and the peer in its calls. Both see the other side from outside only, and report by requirement. Nothing
imports the server of this project, and the halves do not import each other; what both need is directly here.
"""
