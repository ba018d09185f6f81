"""Small translators that have learned nothing, as bundles."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelhub.recipes.translation import export
from modelhub.recipes.translation.export import Sizes, Weights
from modelhub.seq2seq import Bundle, Settings

SIZES = Sizes(vocabulary=40, width=16, heads=2, hidden=24, encoder_layers=2, decoder_layers=2)
PAD, START, END, UNKNOWN = range(4)
NAME = "model.seq2seq.zip"
BANNED = (PAD, START, UNKNOWN)


def weights(seed: int, sizes: Sizes = SIZES) -> dict[str, NDArray[np.float32]]:
    """A translator that has learned nothing; its ends are likely enough that hypotheses of all lengths come up."""
    random = np.random.default_rng(seed)
    width = sizes.width
    shapes: dict[str, tuple[int, ...]] = {"embedding": (sizes.vocabulary, width)}

    def part(name: str, **products: tuple[int, int]) -> None:
        shapes.update({f"{name}.norm.gamma": (width,), f"{name}.norm.beta": (width,)})
        for product, size in products.items():
            shapes.update({f"{name}.{product}.kernel": size, f"{name}.{product}.bias": size[1:]})

    for side, layers in (("encoder", sizes.encoder_layers), ("decoder", sizes.decoder_layers)):
        shapes.update({f"{side}.norm.gamma": (width,), f"{side}.norm.beta": (width,)})
        for layer in range(layers):
            part(f"{side}.{layer}.self", query_key_value=(width, 3 * width), output=(width, width))
            part(f"{side}.{layer}.inner", hidden=(width, sizes.hidden), output=(sizes.hidden, width))
            if side == "decoder":
                part(f"{side}.{layer}.cross", query=(width, width), key_value=(width, 2 * width), output=(width, width))
    found = {name: (random.normal(size=shape) * 0.4).astype(np.float32) for name, shape in shapes.items()}
    found["embedding"][END] += found["decoder.norm.beta"]
    return found | {name: 1 + array for name, array in found.items() if name.endswith("gamma")}


def settings(sizes: Sizes = SIZES) -> Settings:
    return Settings(
        vocabulary=sizes.vocabulary, layers=sizes.decoder_layers, heads=sizes.heads, head_width=sizes.head_width,
        pad=PAD, start=START, end=END,
    )  # fmt: skip


def bundle(folder: Path, made: Weights, sizes: Sizes = SIZES) -> Bundle:
    path = folder / NAME
    export.write_bundle(
        path,
        encoder=export.encoder_graph(made, sizes),
        decoder=export.decoder_graph(made, sizes, banned=BANNED),
        settings=settings(sizes),
    )
    return Bundle(path)


def sources(seed: int, rows: int = 7) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(4, SIZES.vocabulary, size=random.integers(1, 9)).tolist() for _ in range(rows)]


def together(rows: list[list[int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    lengths = np.array([len(row) for row in rows], np.int32)
    tokens = np.full((len(rows), lengths.max(initial=0)), PAD, np.int32)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return tokens, lengths
