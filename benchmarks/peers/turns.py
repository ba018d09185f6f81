"""Ours and a peer's in turns, round after round, because a machine's speed drifts: each round gives a pair."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import load
from benchmarks.bare import Bare
from benchmarks.load import Load
from benchmarks.peers import answers, environments, server
from benchmarks.peers.answers import Scores, WrongAnswer
from benchmarks.peers.catalogue import WORKS, Peer, Setting
from benchmarks.peers.environments import NotInstalled
from benchmarks.peers.server import NotServing

CONNECTIONS = (1, 16, 64)
ROUNDS = 5
SECONDS = 1.0
WARM_UP = 0.3
TRIALS = 2
TRIAL_SECONDS = 0.4
FILES = {"tiny": "tiny.tflite", "cnn": "cnn.int8.tflite"}

# What a peer may do wrong without ending the run: it is named, and the next one has its turn.
FAILURES = (NotServing, WrongAnswer, OSError, ValueError, httpx.HTTPError)

Row = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Beside:
    """One round of a row: what the peer did, what ours did right before it, and the bare engine loop's rate."""

    peer: str
    work: str
    connections: int
    setting: Setting
    theirs: Load
    ours: Load
    limit: float


@dataclass(frozen=True, slots=True)
class Turns:
    """Our server and what is asked of it; `take` sets a peer beside it."""

    files: Mapping[str, Path]
    expected: Mapping[str, Scores]
    requests: Mapping[str, bytes]
    port: int
    loops: Mapping[str, Bare]

    def take(self, peer: Peer) -> tuple[list[Beside], str]:
        """The rounds of every row that the peer has, and why there are none of others."""
        found: list[Beside] = []
        try:
            environments.python(peer.lock)
        except (NotInstalled, OSError) as error:
            print(f"{peer.name}: {error}", flush=True)
            return [], str(error)
        reasons: list[str] = []
        for model in WORKS:
            best, failed = self._tried(peer, model)
            if not best:
                reasons.append(f"{model}: " + "; ".join(failed))
            for setting in dict.fromkeys(best.values()):
                rows = [row for row, chosen in best.items() if chosen == setting]
                try:
                    found += self._rounds(peer, model, setting, rows)
                except FAILURES as error:
                    reasons.append(f"{model} with {setting}: {error}")
        for reason in reasons:
            print(f"{peer.name}: {reason}", flush=True)
        return found, " / ".join(reasons)

    def _tried(self, peer: Peer, model: str) -> tuple[dict[Row, Setting], list[str]]:
        """The better setting of each row, and what went wrong with others."""
        rates: dict[Row, dict[Setting, float]] = {}
        failed: list[str] = []
        for setting in peer.settings[model]:
            print(f"{peer.name}: {model}, trying {setting} …", flush=True)
            try:
                for row, rate in self._trial(peer, model, setting).items():
                    rates.setdefault(row, {})[setting] = rate
            except FAILURES as error:
                failed.append(f"{setting}: {error}")
        return {row: max(by_setting, key=by_setting.__getitem__) for row, by_setting in rates.items()}, failed

    def _trial(self, peer: Peer, model: str, setting: Setting) -> dict[Row, float]:
        """The best of a few short runs, so that what else the machine does decides as little as can be."""
        with self._serving(peer, model, setting) as port:
            for work in WORKS[model]:
                answers.check(server.ask(port, peer.sent[work]), peer.sent[work].read, self.expected[work])
            self._warm(peer, model, port)
            rates: dict[Row, float] = dict.fromkeys(_rows(model), 0.0)
            for row in _rows(model) * TRIALS:
                found = _run(port, peer.sent[row[0]].prepared(), row, TRIAL_SECONDS)
                rates[row] = max(rates[row], found.per_second)
            return rates

    def _rounds(self, peer: Peer, model: str, setting: Setting, rows: list[Row]) -> list[Beside]:
        found = []
        with self._serving(peer, model, setting) as port:
            self._warm(peer, model, port)
            limits = {work: self.loops[work]() for work in {work for work, _ in rows}}
            for number in range(ROUNDS):
                print(f"{peer.name}: {model} with {setting}, round {number + 1} of {ROUNDS} …", flush=True)
                for row in rows:
                    mine = _run(self.port, self.requests[row[0]], row, SECONDS)
                    theirs = _run(port, peer.sent[row[0]].prepared(), row, SECONDS)
                    found.append(Beside(peer.name, *row, setting, theirs, mine, limits[row[0]]))
        return found

    def _warm(self, peer: Peer, model: str, port: int) -> None:
        """Every process of the peer has run its engine, and its scheduler has seen traffic."""
        for work in WORKS[model]:
            _run(port, peer.sent[work].prepared(), (work, CONNECTIONS[-1]), TRIAL_SECONDS)

    def _serving(self, peer: Peer, model: str, setting: Setting) -> AbstractContextManager[int]:
        return server.running(
            peer, model, self.files[FILES[model]], setting, [peer.sent[work] for work in WORKS[model]]
        )


def _rows(model: str) -> list[Row]:
    return [(work, connections) for work in WORKS[model] for connections in CONNECTIONS]


def _run(port: int, request: bytes, row: Row, seconds: float) -> Load:
    return load.run(port, [request], connections=row[1], seconds=seconds, warm_up=WARM_UP)
