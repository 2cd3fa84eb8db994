"""The pure machines: everything the system decides, without await, clock, chance or I/O."""
