"""The actor runtime. The order of reading: mailbox, address, shell, supervisor; clock, dice."""
