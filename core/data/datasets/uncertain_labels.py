"""Labels of CheXpert's labeller: present, absent, uncertain, or not mentioned in the report.

Irvin et al., CheXpert, AAAI 2019, arXiv 1901.07031.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.data.problems import examples, refuse
from core.errors import DataError

MIXED = {
    "Atelectasis": 1.0,
    "Edema": 1.0,
    "Pleural Effusion": 1.0,
    "Cardiomegaly": 0.0,
    "Consolidation": 0.0,
}
"""What an uncertain label counts as under ``mixed``: the rule of Lian et al. for their five
findings. For the others no rule is published, and such a label is left out."""

UNCERTAIN = -1.0
WORDS = {
    "1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": UNCERTAIN, "-1.0": UNCERTAIN,
    "": 0.0, "nan": 0.0,
}  # fmt: skip
"""What a cell says. An empty one is a finding that the report does not mention: absent, as the
authors of CheXpert and of the study take it."""

SENTENCES = {
    "mixed": "Labels marked uncertain count as present for Atelectasis, Edema and Pleural "
    "Effusion, as absent for Cardiomegaly and Consolidation, and are left out for other findings.",
    "ones": "Labels marked uncertain count as present.",
    "zeros": "Labels marked uncertain count as absent.",
    "ignore": "Labels marked uncertain are left out of training and of every score.",
}
"""What each policy does, for the notes of a data set."""


def decided(cells: pd.DataFrame, names: Sequence[str], policy: str, path: Path) -> pd.DataFrame:
    """Labels of a table's cells.

    Args:
        cells: Texts, with a column for each finding.
        names: The findings.
        policy: A key of ``SENTENCES``.
        path: The table, for messages.

    Returns:
        The same rows with the columns ``names``: 1, 0, or NaN where the label is left out.

    Raises:
        DataError: A cell holds something else than a label.
    """
    table = pd.DataFrame(index=cells.index)
    for name in names:
        codes, words = pd.factorize(cells[name])
        values = np.array([WORDS.get(str(one).strip().lower(), np.nan) for one in words], float)
        if np.isnan(values).any():
            _check_words(path, name, cells[name][np.isnan(values)[codes]])
        values[values == UNCERTAIN] = {
            "mixed": MIXED.get(name, np.nan), "ones": 1.0, "zeros": 0.0, "ignore": np.nan,
        }[policy]  # fmt: skip
        table[name] = values[codes]
    return table


def _check_words(path: Path, name: str, odd: pd.Series) -> None:
    found = [f"{one}: “{word}”" for one, word in odd.items()]
    refuse(
        "unknown labels",
        found,
        DataError(
            f"{path}: {len(found):,} cells of the column “{name}” are no labels "
            f"({examples(found)}).",
            "Restore the file; labels are 1, 0, -1 for uncertain, or nothing.",
            field="data.root",
        ),
    )
