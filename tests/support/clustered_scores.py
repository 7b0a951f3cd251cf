"""Labels and scores with several studies per patient."""

import numpy as np


def sample(studies: int = 400, findings: int = 3, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels, scores of a better and a worse model, and patients with several studies each."""
    generator = np.random.default_rng(seed)
    patients = generator.integers(0, studies // 3, studies)
    habit = generator.normal(size=(studies // 3, findings))[patients]
    labels = (generator.random((studies, findings)) < 0.2).astype(np.float32)
    better = labels + habit + generator.normal(size=labels.shape)
    return labels, better, better + generator.normal(size=labels.shape), patients
