"""`make bench`: every benchmark, one after the other, each in a process of its own."""

import subprocess
import sys

BENCHMARKS = {
    "fairness": "how long a quiet tenant waits beside one that floods the server",
    "plane": "predictions a second through HTTP, beside the bare engine loop and the bare server",
    "training": "training pictures a second, beside the seed's own script",
}


def main() -> int:
    """Runs the benchmarks named, or all; the exit status is that of the first that fails."""
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names:
        print(f"\n{name}: {BENCHMARKS[name]}", flush=True)
        status = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
