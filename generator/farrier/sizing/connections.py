"""How many requests a slot may have in service, given the connections that a database grants to all hosts together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Connections:
    """`granted` to the application over all `hosts`; a request in service holds one, in each slot that runs."""

    granted: int
    hosts: int

    def each(self, copies: int) -> int:
        """Requests in service that one slot may have where `copies` run side by side on each host; 0 where none."""
        return self.granted // (self.hosts * copies)

    def need(self, copies: int, concurrency: int) -> int:
        """Connections of all hosts with `concurrency` requests in service in each of `copies`."""
        return self.hosts * copies * concurrency
