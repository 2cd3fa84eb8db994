"""The shells: one Trio task an actor, which feeds its core and performs its commands.

`actors.runtime` is what they all stand on: mailbox, address, shell loop, supervisor, clock, dice.
"""
