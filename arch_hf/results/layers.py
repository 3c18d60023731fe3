"""The layers of one model side by side."""

from collections.abc import Mapping

import msgspec
import numpy as np

from arch_hf.results.result import LayerCurve, Result


def layer_curve(results: Mapping[int, Result]) -> LayerCurve:
    """Each layer's mean validation score, and the layer that it chooses: the test set has no say. Ties go to the deeper layer."""
    means: dict[int, float | None] = {}
    for layer, result in results.items():
        values = [run.validation for run in result.runs if run.validation is not None]
        means[layer] = float(np.mean(values)) if values else None
    known = {layer: mean for layer, mean in means.items() if mean is not None}
    depth = {layer: position for position, layer in enumerate(results)}
    best = max(known, key=lambda layer: (known[layer], depth[layer])) if known else None
    validation = {str(layer): mean for layer, mean in means.items()}
    return LayerCurve(by="mean validation score", best=best, validation=validation)


def with_layer_curve(results: Mapping[int, Result]) -> dict[int, Result]:
    """The results of several layers, each with the curve over all of them; one that has a curve over these and more already keeps it."""
    if len(results) == 1:
        return dict(results)
    curve = layer_curve(results)
    return {
        layer: result
        if result.layer_curve and result.layer_curve.validation.keys() >= curve.validation.keys()
        else msgspec.structs.replace(result, layer_curve=curve)
        for layer, result in results.items()
    }
