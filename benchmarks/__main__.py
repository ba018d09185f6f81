"""`make bench`: every benchmark, one after the other, each in a process of its own, which comes after the database."""

import subprocess
import sys

BENCHMARKS = {
    "fairness": "how long a quiet tenant waits beside one that floods the server",
    "plane": "predictions a second through HTTP, beside the bare engine loop and the bare server",
    "engines": "the seed CNN on every engine, by threads and batch size",
    "training": "training pictures a second, beside the seed's own script",
    "operator_reports": "a month's usage report of 744,000 sums, and the operator's reports over 10,000 tenants",
}
# Too long to be among all, or of the host rather than of us; they are run when they are named.
LONG = {
    "host": "whether this host leaves a process that wakes up now and then without a processor",
    "batch_sizes": "whether the best batch of the seed CNN comes out the same each time it is measured",
    "peers": "ours beside other servers of models, each installed in an environment of its own",
    "lone": "how long one caller waits who asks now and then",
    "ledger": "metering's cost, events a second into the rollup, a month's usage and invoice",
    "soak": "1,000 requests a second of mixed traffic for ten minutes",
}


def main() -> int:
    """Runs the benchmarks named, or all but the long ones; the exit status is that of the first that fails."""
    names = sys.argv[1:] or list(BENCHMARKS)
    known = BENCHMARKS | LONG
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names:
        print(f"\n{name}: {known[name]}", flush=True)
        benchmark = [sys.executable, "-m", f"benchmarks.{name}"]
        status = subprocess.run([sys.executable, "-m", "aiaas_site.database_first", *benchmark], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
