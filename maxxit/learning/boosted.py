"""LightGBM regression of log realised volatility, times symmetric quantiles.

LightGBM (`pip install -r requirements-train.txt`) fits the trees; they are stored as numbers, and numpy computes
forecasts from these, so that no worker that forecasts needs it. The trees split on numbers without missing values.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from maxxit.core.errors import Misconfigured
from maxxit.learning import statistics
from maxxit.learning.forecasters import Forecasts, Rows, scaled
from maxxit.learning.hours import Floats

SETTINGS = {
    "objective": "regression",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "zero_as_missing": False,
    "use_missing": False,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
"""Small trees, many rows in each leaf: hourly rows overlap, so that far fewer of them are independent."""
ROUNDS = 150


class Boosted:
    """Gradient-boosted trees (Ke et al., LightGBM, 2017) of all features in place of HAR's nine terms."""

    name, purpose = "lightgbm", "volatility"

    def fit(self, rows: Rows) -> dict[str, Any]:
        """Return the trees and the quantiles. Raises Misconfigured where LightGBM is not installed."""
        lightgbm = _library()
        data = lightgbm.Dataset(rows.features, label=np.log(rows.volatility), params=SETTINGS)
        fitted = lightgbm.train(SETTINGS, data, num_boost_round=ROUNDS)
        trees = [_flat(tree["tree_structure"]) for tree in fitted.dump_model()["tree_info"]]
        sigma = np.exp(predict(trees, rows.features)) * np.sqrt(rows.horizon)
        return {
            "features": list(rows.names),
            "trees": trees,
            "z": statistics.empirical(rows.returns / sigma, symmetric=True),
        }

    def forecast(self, parameters: Mapping[str, Any], rows: Rows) -> Forecasts:
        columns = [rows.names.index(name) for name in parameters["features"]]
        log_volatility = predict(parameters["trees"], rows.features[:, columns])
        sigma = np.exp(log_volatility) * np.sqrt(rows.horizon)
        return scaled(sigma, np.zeros(len(rows)), parameters["z"])


def predict(trees: list[list[list[float]]], features: Floats) -> Floats:
    """Return the sum of the trees' values for each row of `features`, shape (n, number of features).

    A tree is a list of nodes: `[feature, threshold, left, right]`, left where the feature is at most the threshold, and
    `[-1, value, 0, 0]` of a leaf. The first node is the root.

    Raises ValueError where a row reaches no leaf, since a node of a damaged tree leads back to itself or upwards.
    """
    total = np.zeros(len(features))
    every = np.arange(len(features))
    for tree in trees:
        nodes = np.array(tree)
        feature, threshold = nodes[:, 0].astype(int), nodes[:, 1]
        branches = nodes[:, 2:].astype(int)
        at = np.zeros(len(features), dtype=int)
        for _ in range(len(nodes)):
            inner = feature[at] >= 0
            if not inner.any():
                break
            right = features[every, np.maximum(feature[at], 0)] > threshold[at]
            at = np.where(inner, branches[at, right.astype(int)], at)
        else:
            raise ValueError("the tree has a cycle")
        total += threshold[at]
    return total


def _flat(root: Mapping[str, Any]) -> list[list[float]]:
    """Return the nodes of a tree as LightGBM dumps it, each parent before its children."""
    nodes: list[list[float]] = []
    for place, node in _numbered(root):
        if "leaf_value" in node:
            nodes.append([-1, node["leaf_value"], 0, 0])
            continue
        if node["decision_type"] != "<=":
            raise ValueError(f"node {place} splits by {node['decision_type']}")
        nodes.append([node["split_feature"], node["threshold"], node["left_place"], node["right_place"]])
    return nodes


def _numbered(root: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (place, node) in the order of levels, with the places of the children."""
    waiting, place = [dict(root)], 0
    while place < len(waiting):
        node = waiting[place]
        if "leaf_value" not in node:
            node["left_place"], node["right_place"] = len(waiting), len(waiting) + 1
            waiting += [dict(node["left_child"]), dict(node["right_child"])]
        yield place, node
        place += 1


def _library() -> ModuleType:
    try:
        return import_module("lightgbm")
    except ImportError:
        raise Misconfigured(
            "the forecaster lightgbm is fitted by LightGBM, which is not installed: "
            "pip install -r requirements-train.txt"
        ) from None
