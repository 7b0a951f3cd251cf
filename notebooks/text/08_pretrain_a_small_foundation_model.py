# %% [markdown]
# # Pre-train a small foundation model
#
# **You will learn** how masked autoencoding makes features without labels, to watch it by a linear
# probe instead of by its loss, to train on your own weights, and to say whether pre-training was
# worth it.
#
# **It takes** about three minutes of computing on two cores, and twenty minutes of reading. The
# embedded backbone took an hour and a half; this one is a toy, and says so.
#
# **For research and education, not for clinical use.** The runs below are written to your workspace,
# so that the explorer shows them too. On [Colab](https://colab.research.google.com/): upload this
# file, put the wheel that `pip wheel --no-deps .` makes beside it, and run from the top.

# %%
import importlib.util

# On Colab; does nothing where the explorer is installed.
if importlib.util.find_spec("core") is None:
    # %pip install --quiet cxr_peft_explorer-0.1.0-py3-none-any.whl

# %%
import json
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress widgets needed

from core import foundation
from core.data.phantoms.dataset import Phantom
from core.data.datasets.write_folder import save
from core.evaluation.evaluate import evaluate_run
from core.training.run_here import run_in_process
from core.models.backbones.registry import provenance
from core.pretraining.trainer import pretrain
from core.pretraining.recipe import Origin, PretrainSettings
from core.runs.store import open_store
from core.config.run import RunSpec
from core.workspace import open_workspace
from explorer.figures.dots import Point, cost_and_score
from explorer.figures.palette import run_styles
from explorer.figures.standalone import picture

FAST = os.environ.get("CXR_FAST") == "1"  # a first look: too short to learn anything from
STUDIES = {"train": 24, "val": 16, "test": 24} if FAST else {"train": 400, "val": 100, "test": 300}
PICTURES, STEPS, EPOCHS = (48, 8, 1) if FAST else (2_000, 400, 6)

workspace = open_workspace()  # CXR_WORKSPACE, or a folder of your own
store = open_store(workspace, create=True)

# %% [markdown]
# ## 1 · Pictures without labels
#
# Other phantom patients than those of any data set here. No label is read in this section.

# %%
unlabelled = Phantom("phantom-5", seed=2024, size=96, train=PICTURES, val=1, test=1)
pictures = foundation.gather(unlabelled, unlabelled.ids("train"), workspace.cache, 64)
print(
    f"{len(pictures):,} pictures of {pictures.shape[1]} px, {pictures.nbytes / 1e6:.0f} MB in memory"
)

# %% [markdown]
# ## 2 · The task: draw what is hidden
#
# A picture of 64 px is 16 patches; three quarters are hidden. The encoder sees the rest, a small
# decoder draws the missing ones (He et al. 2022, arXiv 2111.06377). Nobody needs the drawings: what
# the encoder has to know in order to draw them is what we want. Each target patch is normalised, so
# that texture counts and brightness does not.

# %%
random = np.random.default_rng(0)
sheet, places = plt.subplots(2, 5, figsize=(9, 3.8), layout="constrained")
for above, below, one in zip(*places, pictures[:5, 8:72, 8:72], strict=True):
    hidden = np.ones(16, bool)
    hidden[random.choice(16, 4, replace=False)] = False
    mask = np.kron(hidden.reshape(4, 4), np.ones((16, 16), bool))
    above.imshow(one, cmap="gray", vmin=0, vmax=255)
    below.imshow(np.where(mask, 128, one), cmap="gray", vmin=0, vmax=255)
    above.set_axis_off()
    below.set_axis_off()
places[0][0].set_title("a picture", fontsize=9)
places[1][0].set_title("what the encoder sees", fontsize=9);

# %% [markdown]
# ## 3 · Train, watched by a probe
#
# The loss says how well patches are drawn. The **probe** says what you care about: ridge regression
# on the features of labelled training phantoms, scored on validation phantoms. Kill the kernel if
# you like: with the same settings it goes on from its checkpoint.

# %%
chests = Phantom("phantom-5", size=96, **STUDIES)
probe = foundation.make_probe(workspace.cache / "tutorials", 64, chests)
place = workspace.root / "tutorials" / f"pretrained-{STEPS}"
lines = []
weights = pretrain(
    pictures,
    place,
    settings=PretrainSettings(input_size=64, steps=STEPS, batch_size=32 if FAST else 64),
    log=lines.append,
    probes={"phantoms": probe},
    origin=Origin(data=f"{PICTURES:,} phantoms", command="notebook 08"),
)
card = json.loads((place / "card.json").read_text())
print(lines[-1] if lines else "It was trained before; nothing was left to do.")
print(f"{card['images_seen']:,} pictures seen, loss {card['loss']:.3f}")

# %%
curve = pd.DataFrame(card["probe_auroc"])
shipped = pd.DataFrame(provenance("embedded-mae")["probe_auroc"]).set_index("step")
drawn, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), sharey=True, layout="constrained")
left.plot(curve["step"], curve["phantoms"], "o-", color="#009E73")
left.set(title="ours, a minute", xlabel="step", ylabel="AUROC of the linear probe")
for name, mark in zip(shipped.columns, "o^sD", strict=False):
    right.plot(shipped[name], f"{mark}-", ms=4, label=name.partition(",")[0])
right.set(title="the shipped one, 45 minutes more", xlabel="step after the first 4,464")
right.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
for axes in (left, right):
    axes.grid(alpha=0.3)

# %% [markdown]
# The loss falls from the first step; the probe need not follow. Random projections of a picture are a
# strong start for ridge regression, above all where a finding changes a large area, and in its first
# minutes the network gives them up for something else. What it learns instead pays later and
# elsewhere: on the right the shipped weights, which had 4,464 steps behind them when that curve
# begins, gain on radiographs of patients for another 2,705. That is why people pre-train for days, and
# why one watches a probe and not the loss. With a hundred validation studies it is noisy, too.
#
# ## 4 · Was it worth it?
#
# The weights are an ordinary checkpoint: `--weights FILE` takes them in place of the shipped ones.
# We train the linear head and LoRA from three starts: random weights, ours, and the shipped ones
# (eighteen times as many steps, and on real radiographs too).

# %%
folder = save(chests, workspace.root / "tutorials" / f"phantoms-{STUDIES['train']}")
settings = {"data.name": "folder", "data.root": folder, "data.called": "tutorial phantoms"}
settings |= {"data.label_fraction": 1.0, "model.input_size": 64, "train.epochs": EPOCHS}
STARTS = {
    "random": {"model.pretrained": False},
    "ours": {"model.weights": weights},
    "shipped": {},
}
WAYS = ("linear",) if FAST else ("linear", "lora")
runs = {
    (start, way): carry_out(
        RunSpec.of(**settings, **given, **{"adapter.method": way}), store, workspace
    )
    for start, given in STARTS.items()
    for way in WAYS
}
scores = {key: evaluate(workspace.run(run.id), groups=False).macro for key, run in runs.items()}
table = pd.DataFrame(
    {
        way: {
            start: f"{scores[start, way].value:.3f} ({scores[start, way].low:.3f} to "
            f"{scores[start, way].high:.3f})"
            for start in STARTS
        }
        for way in WAYS
    }
)
display(table.rename_axis("start"))

styles = run_styles([way for _, way in runs])
points = [
    Point(f"{way}, {start}", run.trainable, scores[start, way], style, f"{way} from {start}")
    for ((start, way), run), style in zip(runs.items(), styles, strict=True)
]
display(HTML(picture(cost_and_score(points, title="Test AUROC by start and method"))))

# %% [markdown]
# A minute of pre-training is not worth it, if ours is not above the random start in your table. A random
# network with a trained head is not at 0.5: random features are features. Judge a start by its distance
# from *that*, not from chance. And beware of the home advantage: all three are tested on
# phantoms, and ours has seen nothing else.
#
# ## Your turn
#
# 1. **Longer.** Double the steps. What does the probe gain, and what the loss?
# 2. **An easier task.** Hide only half of the patches.
# 3. **Your own pictures.** Pre-train on a folder of radiographs, starting from the shipped weights.
#
# <details><summary>Solutions</summary>
#
# 1. `PretrainSettings(input_size=64, steps=800)` in another folder: a schedule's cosine ends with it,
#    so a longer training is another training.
# 2. `PretrainSettings(input_size=64, masked=0.5)`: the loss falls further, since less has to be
#    guessed. Look at the probe before you call that better.
# 3. `python -m core pretrain --data folder --root DIR --start embedded-mae --minutes 45 --out mine`;
#    validation and test pictures, and whatever looks like one, are left out for you.
#
# </details>
#
# `python app.py` → **Launch** takes the weights by *Weights*, and **Compare** has the runs above.
# Back to the start: [quickstart](01_quickstart.ipynb).
