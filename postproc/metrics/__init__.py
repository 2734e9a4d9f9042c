"""Metrics of trial lists, rankings and clusters, with controls and confidence intervals: the one place they are made.

Scores have a direction: ``distance`` (lower = same person) or ``similarity`` (higher = same person). Rates are
fractions 0..1.
"""

from postproc.metrics.bootstrap import bootstrap_eer
from postproc.metrics.controls import TooFewIdentities, chance_eer, gender_only_eer, same_gender_eer
from postproc.metrics.evaluate import evaluate_cell, evaluate_ranking, overall, summarise
from postproc.metrics.ranking import matching_accuracy, retrieval_map
from postproc.metrics.roc import EER, DetPoints, Direction, auc, det_points, eer, min_dcf

__all__ = [
    "EER",
    "DetPoints",
    "Direction",
    "TooFewIdentities",
    "auc",
    "bootstrap_eer",
    "chance_eer",
    "det_points",
    "eer",
    "evaluate_cell",
    "evaluate_ranking",
    "gender_only_eer",
    "matching_accuracy",
    "min_dcf",
    "overall",
    "retrieval_map",
    "same_gender_eer",
    "summarise",
]
