"""The population of the phantoms: patients with age, sex, studies and correlated findings.

Each finding is drawn from a logistic model of age, severity of illness, whether the image was taken
on a bed, and the findings drawn before it: effusion is more likely with a large heart, and
pneumothorax with emphysema. The intercept is set so that the finding has its prevalence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.phantoms.pathology import PATHOLOGY

PREVALENCE: dict[str, float] = {
    "Cardiomegaly": 0.08,
    "Emphysema": 0.06,
    "Fibrosis": 0.05,
    "Hernia": 0.03,
    "Mass": 0.06,
    "Nodule": 0.08,
    "Pleural_Thickening": 0.06,
    "Pneumonia": 0.05,
    "Infiltration": 0.13,
    "Consolidation": 0.07,
    "Edema": 0.06,
    "Effusion": 0.13,
    "Atelectasis": 0.12,
    "Pneumothorax": 0.06,
}
"""Share of the studies with each finding, in the order in which they are drawn. Common findings are
as frequent as in NIH ChestX-ray14. Rare ones are raised to at least 3%, so that their AUROC can be
measured on some hundred studies."""

_AGE = {"Cardiomegaly": 0.5, "Emphysema": 0.6, "Fibrosis": 0.5, "Hernia": 0.9, "Mass": 0.4,
        "Nodule": 0.3, "Pleural_Thickening": 0.4, "Edema": 0.4, "Effusion": 0.3,
        "Atelectasis": 0.2, "Pneumothorax": -0.2}  # fmt: skip
_ILL = {"Infiltration": 0.6, "Consolidation": 0.9, "Edema": 1.0, "Effusion": 0.8,
        "Atelectasis": 0.7, "Pneumonia": 0.8, "Cardiomegaly": 0.4, "Pneumothorax": 0.4}  # fmt: skip
_ON_BED = {"Edema": 1.2, "Consolidation": 0.8, "Effusion": 0.4, "Infiltration": 0.5,
           "Pneumonia": 0.4, "Atelectasis": 0.4}  # fmt: skip
_ODDS_RATIO: dict[str, dict[str, float]] = {
    "Fibrosis": {"Emphysema": 0.7},
    "Nodule": {"Mass": 1.0},
    "Pleural_Thickening": {"Fibrosis": 1.2, "Emphysema": 0.4},
    "Infiltration": {"Pneumonia": 1.2},
    "Consolidation": {"Pneumonia": 0.8, "Infiltration": 0.2},
    "Edema": {"Cardiomegaly": 1.2, "Emphysema": -1.0},
    "Effusion": {"Cardiomegaly": 0.9, "Edema": 0.8, "Consolidation": 0.7, "Mass": 0.5},
    "Atelectasis": {"Effusion": 1.1, "Consolidation": 0.2, "Emphysema": -0.5},
    "Pneumothorax": {"Emphysema": 1.1, "Edema": -0.6},
}
"""Log odds ratios. They are not estimates from patients; they only make findings occur together as
they do in hospitals."""

MOST_STUDIES = 6


def draw_studies(
    count: int, first: int, seed: list[int], prevalence: Mapping[str, float]
) -> pd.DataFrame:
    """Draw the studies of one split.

    Args:
        count: Number of studies.
        first: Number of the first patient.
        seed: Seed of the random numbers.
        prevalence: Share of the studies by finding, for those that differ from ``PREVALENCE``.

    Returns:
        One row per study: ``number`` (of the patient), ``study`` (from 1), ``sex``, ``age``,
        ``view`` and a Boolean column for each of the 14 findings.
    """
    random = np.random.default_rng(seed)
    studies = np.minimum(random.geometric(0.5, count), MOST_STUDIES)
    patients = int(np.searchsorted(np.cumsum(studies), count)) + 1
    studies = studies[:patients]
    owner = np.repeat(np.arange(patients), studies)[:count]
    nth = np.concatenate([np.arange(n) for n in studies])[:count]

    female = random.random(patients) < 0.46
    age = np.clip(random.normal(52, 17, patients), 18, 94).round()
    ill = random.normal(0, 1, patients) + 0.35 * np.minimum(studies - 1, 3)
    now = 0.75 * ill[owner] + 0.65 * random.normal(0, 1, count)
    on_bed = random.random(count) < 1 / (1 + np.exp(0.9 - 1.1 * now))

    years = (age[owner] - 52) / 17
    patient_draws = random.random((patients, len(PREVALENCE)))
    study_draws = random.random((count, len(PREVALENCE)))
    present: dict[str, NDArray[np.bool_]] = {}
    for column, (name, default) in enumerate(PREVALENCE.items()):
        chronic = PATHOLOGY[name].chronic
        odds = _AGE.get(name, 0.0) * years
        odds = odds + _ILL.get(name, 0.0) * (0.8 * ill[owner] if chronic else now)
        if not chronic:
            odds = odds + _ON_BED.get(name, 0.0) * on_bed
        for other, ratio in _ODDS_RATIO.get(name, {}).items():
            odds = odds + ratio * present[other]
        chance = _with_mean(odds, prevalence.get(name, default))
        drawn = patient_draws[owner, column] if chronic else study_draws[:, column]
        present[name] = drawn < chance
    columns = {
        "number": first + owner,
        "study": nth + 1,
        "sex": np.where(female[owner], "F", "M"),
        "age": age[owner] + (nth // 3),
        "view": np.where(on_bed, "AP", "PA"),
    }
    return pd.DataFrame(columns | {name: present[name] for name in PATHOLOGY})


def _with_mean(odds: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Convert log odds to probabilities, with an offset that makes their mean ``mean``."""
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.mean(1 / (1 + np.exp(-(odds + middle)))) < mean:
            low = middle
        else:
            high = middle
    chances: NDArray[np.float64] = 1 / (1 + np.exp(-(odds + low)))
    return chances
