"""Uncertain labels of CheXpert's labeller: present, absent, uncertain, or not mentioned.

Irvin et al., CheXpert, AAAI 2019, arXiv 1901.07031.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.data.problems import examples, raise_or_collect
from core.errors import DataError

MIXED = {
    "Atelectasis": 1.0,
    "Edema": 1.0,
    "Pleural Effusion": 1.0,
    "Cardiomegaly": 0.0,
    "Consolidation": 0.0,
}
"""Values of uncertain labels with the policy ``mixed``: the rule of Lian et al. for their five
findings. There is no published rule for other findings, whose uncertain labels are ignored."""

UNCERTAIN = -1.0
WORDS = {
    "1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": UNCERTAIN, "-1.0": UNCERTAIN,
    "": 0.0, "nan": 0.0,
}  # fmt: skip
"""Values of a cell. An empty cell is a finding that the report does not mention, which counts as
absent, as in CheXpert and in the study of Lian et al."""

SENTENCES = {
    "mixed": "Labels marked uncertain count as present for Atelectasis, Edema and Pleural "
    "Effusion, as absent for Cardiomegaly and Consolidation, and are ignored for other findings.",
    "ones": "Labels marked uncertain count as present.",
    "zeros": "Labels marked uncertain count as absent.",
    "ignore": "Labels marked uncertain are not used in training or in any score.",
}
"""Description of each policy, for the notes of a data set."""


def decided(cells: pd.DataFrame, names: Sequence[str], policy: str, path: Path) -> pd.DataFrame:
    """Convert the cells of a table to labels by a policy, a key of ``SENTENCES``.

    Returns:
        The same rows with the columns ``names``: 1, 0, or NaN if the label is ignored.

    Raises:
        DataError: A cell is not a label.
    """
    table = pd.DataFrame(index=cells.index)
    for name in names:
        codes, words = pd.factorize(cells[name])
        values = np.array([WORDS.get(str(word).strip().lower(), np.nan) for word in words], float)
        if np.isnan(values).any():
            _report_unknown(path, name, cells[name][np.isnan(values)[codes]])
        values[values == UNCERTAIN] = {
            "mixed": MIXED.get(name, np.nan), "ones": 1.0, "zeros": 0.0, "ignore": np.nan,
        }[policy]  # fmt: skip
        table[name] = values[codes]
    return table


def _report_unknown(path: Path, name: str, unknown: pd.Series) -> None:
    cells = [f"{study}: “{word}”" for study, word in unknown.items()]
    raise_or_collect(
        "unknown labels",
        cells,
        DataError(
            f"{path}: {len(cells):,} cells of the column “{name}” are not labels "
            f"({examples(cells)}).",
            "Restore the file. Labels are 1, 0, -1 for uncertain, or empty.",
            field="data.root",
        ),
    )
