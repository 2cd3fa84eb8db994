"""How near learned rates come to hidden limits: upstreams, limits and seeds, as a table.

``python -m tests.core.sweep_learned_rates [SEEDS [UPSTREAM]]`` prints, for each upstream whose name
has the text in it and for each of its limits, the worst and the mean of both figures over all
seeds. A minute or more a seed.
"""

import sys
from itertools import product
from statistics import mean

from tests.core.learned_world import KINDS, follow

PHASES = ((720, 180, 720), (3_000, 1_500, 6_000))


def main(seeds: int, named: str) -> None:
    figures = f"{'used: worst, mean':>20}{'refused: worst, mean':>22}"
    print(f"{'upstream':14}{'429':>7}{'limit':>7}{figures}")
    kinds = [kind for kind in KINDS if named in kind]
    for kind, header, phases in product(kinds, (True, False), PHASES):
        runs = [
            follow(KINDS[kind](), phases, header=header, seed=seed, configured=4 * max(phases))
            for seed in range(seeds)
        ]
        for per_minute, shares in zip(phases, zip(*runs, strict=True), strict=True):
            used = [share.used for share in shares]
            refused = [share.refusals for share in shares]
            print(
                f"{kind:14}{'after' if header else 'bare':>7}{per_minute:7}"
                f"{min(used):13.1%}{mean(used):7.1%}{max(refused):15.2%}{mean(refused):7.2%}",
                flush=True,
            )


if __name__ == "__main__":
    given = [*sys.argv[1:], *("4", "")[len(sys.argv) - 1 :]]
    main(int(given[0]), given[1])
