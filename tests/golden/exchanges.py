"""Golden files: how a request and its answer are written down, and how they travel. README.md describes the form."""

import gzip
import http.client
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SEPARATOR = "---"
COLUMNS, HEX_BYTES = 116, 32
# The connection's own, and what reading the answer checks.
LEFT_OUT = {"date", "content-length"}
# What differs from run to run, and what stands in its place.
ALWAYS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "{uuid}"),
    (re.compile(r"(?<=;)r=\d+;t=\d+"), "r={int};t={int}"),
)
# What differs only in some answers, whose files say so: `# Varies: counts`.
SOMETIMES = {
    "fractions": (re.compile(r"\d+\.\d+(?:e-?\d+)?"), "{float}"),
    "counts": (re.compile(r'(?<=count":)\d+|(?<="ns":)\d+|(?<="last_inference":)\d+'), "{int}"),
    "speed": (re.compile(r'(?<="preferred_batch_size":\[)\d+'), "{int}"),
    "wait": (re.compile(r"(?<=retry-after: )\d+"), "{int}"),
}


@dataclass(frozen=True)
class Case:
    """A golden file: the request as it is sent, what varies in its answer, and the answer as it is written down."""

    file: Path
    head: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    varies: tuple[str, ...]
    answer: str

    def write(self, answer: str) -> None:
        """Puts another answer into the file."""
        self.file.write_text(f"{self.head}{SEPARATOR}\n{answer}")


def read(file: Path) -> Case:
    head, _, answer = file.read_text().partition(f"\n{SEPARATOR}\n")
    lines = head.splitlines()
    about = [line for line in lines if line.startswith("#")]
    varies = [line.partition("Varies:")[2].split(", ") for line in about if line.startswith("# Varies:")]
    (method, path), rest = lines[len(about)].split(" "), lines[len(about) + 1 :]
    end = rest.index("") if "" in rest else len(rest)
    headers = [line.partition(": ") for line in rest[:end]]
    return Case(
        file, head + "\n", method, path,
        headers=tuple((name, value) for name, _, value in headers),
        body=b"".join(map(_bytes, rest[end + 1 :])),
        varies=tuple(name.strip() for names in varies for name in names),
        answer=answer,
    )  # fmt: skip


def _bytes(line: str) -> bytes:
    kind, _, rest = line.partition(" ")
    if kind == "hex":
        return bytes.fromhex(rest)
    if kind == "crlf":
        return rest.encode() + b"\r\n"
    return line.encode()


def ask(case: Case, port: int, keys: Mapping[str, str]) -> str:
    """Sends the request, byte for byte, and writes down the answer. Headers name a key by its place: `{acme}`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        body = _encoded(case.body, dict(case.headers).get("Content-Encoding", ""))
        given = {name for name, _ in case.headers}
        if case.method == "POST" and "Content-Length" not in given:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in case.headers:
            connection.putheader(name, value.format(**keys))
        connection.endheaders(body)
        answer = connection.getresponse()
        headers = [(name.lower(), value) for name, value in answer.getheaders()]
        assert "content-length" in dict(headers)
        return _written(answer.status, headers, answer.read(), case.varies)
    finally:
        connection.close()


def _encoded(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body)
    return zlib.compress(body) if encoding == "deflate" else body


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body


def _written(status: int, headers: Iterable[tuple[str, str]], body: bytes, varies: Iterable[str]) -> str:
    """An answer for people: its headers in order, JSON in lines, tensors in hexadecimal digits."""
    named = dict(headers)
    body = _decoded(body, named.get("content-encoding", ""))
    length = int(named.get("inference-header-content-length", len(body)))
    shown = "".join(f"{name}: {value}\n" for name, value in sorted(headers) if name not in LEFT_OUT)
    text = body[:length].decode()
    for pattern, name in (*ALWAYS, *(SOMETIMES[one] for one in varies)):
        shown, text = pattern.sub(name, shown), pattern.sub(name, text)
    lines = re.findall(rf".{{1,{COLUMNS}}}(?:(?<=,)|$)|[^,]+,?", text)
    assert "".join(lines) == text, "an answer whose text has line breaks has no form here yet"
    if body[length:]:
        lines += _hex(body[length:], [one.get("parameters", {}) for one in json.loads(body[:length])["outputs"]])
    return f"{status}\n{shown}\n" + "".join(f"{line}\n" for line in lines)


def _hex(data: bytes, outputs: Iterable[Mapping[str, int]]) -> list[str]:
    """The tensors, each from a line of its own on."""
    lines, at = [], 0
    for size in (one["binary_data_size"] for one in outputs if "binary_data_size" in one):
        tensor, at = data[at : at + size], at + size
        lines += [f"hex {tensor[i : i + HEX_BYTES].hex(' ', -4)}" for i in range(0, size, HEX_BYTES)]
    assert at == len(data), f"{len(data) - at} bytes come after the last tensor"
    return lines
