# %% [markdown]
# # What does it look at?
#
# **You will learn** to make saliency maps by several methods side by side, to score them against a
# truth that is known to the pixel, to test whether a map depends on the model at all, and to say what
# no such map can tell.
#
# **It takes** about three minutes of computing on two cores, and half an hour of reading.
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
import copy
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Image, display

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress widgets needed

from core.formatting import DISCLAIMER
from core.data.phantoms.dataset import Phantom
from core.data.datasets.write_folder import save
from core.evaluation.evaluate import evaluate_run
from core.training.run_here import run_in_process
from core.runs.store import open_store
from core.saliency import methods, request, scoring
from core.config.run import RunSpec
from core.classifier.trained import load_trained
from core.workspace import open_workspace

plt.rcParams["figure.dpi"] = 80  # many films: at 100, the file grows past 2 MB
FAST = os.environ.get("CXR_FAST") == "1"  # a first look: too short to learn anything from
STUDIES = {"train": 24, "val": 16, "test": 24} if FAST else {"train": 400, "val": 100, "test": 200}
SIDE, EPOCHS, SCORED = (64, 1, 4) if FAST else (128, 6, 40)

workspace = open_workspace()  # CXR_WORKSPACE, or a folder of your own
store = open_store(workspace, create=True)

# %% [markdown]
# ## 1 · A model to ask
#
# Phantoms, because only for them somebody knows every pixel of a finding, and what the same patient
# looks like without it.

# %%
chests = Phantom("phantom-5", size=144 if SIDE == 128 else 96, **STUDIES)
folder = save(chests, workspace.root / "tutorials" / f"phantoms-{STUDIES['train']}-{chests.size}")
settings = {"data.name": "folder", "data.root": folder, "data.called": "tutorial phantoms"}
settings |= {"data.label_fraction": 1.0, "model.input_size": SIDE, "train.epochs": EPOCHS}
run = carry_out(RunSpec.of(**settings), store, workspace)
model = load_trained(workspace.run(run.id))
result = evaluate(workspace.run(run.id), groups=False)
display(
    pd.Series(
        {
            one.finding: f"{one.auroc.value:.3f} ({one.auroc.low:.3f} to {one.auroc.high:.3f})"
            for one in result.findings
        },
        name="test AUROC",
    ).to_frame()
)

# %%
FINDING = "Pleural Effusion"  # any of chests.findings
ill = [one for one in chests.ids("test") if chests.study(one).findings[FINDING] == 1]
study = max(ill, key=lambda one: chests.mask(one, FINDING).sum())  # the largest
out = workspace.root / "tutorials" / "map.png"
request.draw(request.explain_study_of(model, chests, study, FINDING), out)
Image(out)

# %% [markdown]
# That is the explorer's own figure for print: original, map, overlay, colour bar with the unit, and
# the disclaimer. The map is coarse, because the network is: at this size it sees a few patches a
# side, and no method can be sharper than the layer it reads.
#
# ## 2 · All methods, one picture
#
# Each answers another question, and so they disagree. *Grad-CAM* weighs features by gradients;
# *HiResCAM* keeps only what the layer passes on; *attention rollout* and *EigenCAM* never hear which
# finding was asked for; *occlusion* hides places and watches the logit.

# %%
picture_of = chests.read(study)
truth = chests.mask(study, FINDING)
chosen = [n for n, one in methods.METHODS.items() if not (one.paired or (FAST and one.slow))]
maps = {name: methods.explain_study(model, picture_of, FINDING, name) for name in chosen}

lines = 1 + len(chosen) // 5
sheet, places = plt.subplots(lines, 5, figsize=(12, 2.7 * lines), layout="constrained")
for axes in places.flat:
    axes.set_axis_off()
for axes, (name, found) in zip(places.flat[1:], maps.items(), strict=False):
    axes.imshow(picture_of, cmap="gray", vmin=0, vmax=255)
    strength = np.clip(np.nan_to_num(found.map) / (found.peak or 1), 0, 1)
    axes.imshow(found.map, cmap="inferno", vmin=0, vmax=found.peak or 1, alpha=0.7 * strength)
    axes.contour(truth, [0.5], colors="#56B4E9", linewidths=1)
    axes.set_title(methods.METHODS[name].title, fontsize=9)
places.flat[0].imshow(picture_of, cmap="gray", vmin=0, vmax=255)
places.flat[0].contour(truth, [0.5], colors="#56B4E9", linewidths=1)
places.flat[0].set_title(f"{FINDING}, outlined", fontsize=9)
sheet.supxlabel(DISCLAIMER, fontsize=8);

# %% [markdown]
# ## 3 · Scored against the truth
#
# *Hit*: is the map's peak on the finding? *Energy*: which share of the map lies on it, and which
# would if the map were the same everywhere (*area*)? A method whose energy is the area has told you
# nothing. The figure sets the energy against the area that would be chance.

# %%
quick = [name for name in chosen if not methods.METHODS[name].slow]
rows = []
for one in ill[:SCORED]:
    image, region = chests.read(one), chests.mask(one, FINDING)
    if not region.any():
        continue
    for name in quick:
        found = scoring.score(methods.explain_study(model, image, FINDING, name).map, region)
        rows.append({"method": name, "hit": found.hit, "energy": found.energy, "area": found.area})
table = pd.DataFrame(rows).groupby("method")[["hit", "energy", "area"]].mean()
display(table.sort_values("energy", ascending=False).style.format("{:.0%}"))

order = table.sort_values("energy").index
bars, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.barh([methods.METHODS[name].title for name in order], table.loc[order, "energy"])
axes.axvline(table["area"].mean(), color="0.3", lw=1, ls="--", label="an even map")
axes.set_xlabel(
    f"mean share of the map on the {FINDING.lower()}, {len(rows) // len(quick)} studies"
)
axes.legend(frameon=False);


# %% [markdown]
# ## 4 · Does the map depend on the model?
#
# Adebayo et al. (2018, arXiv 1810.03292) asked what happens to a map when the model's weights are
# replaced by random ones, from the classifier backwards. A map that stays as it was explains the
# picture, not the model. We draw the classifier anew, then the last blocks, then all of them, and
# correlate each map with the first.

# %%
def randomised(blocks):
    """The model with a random classifier and so many random blocks, the last ones first."""
    other = copy.deepcopy(model.model)
    torch.manual_seed(0)
    last = list(other.blocks)[len(other.blocks) - blocks :] if blocks else []
    for part in (other.head, *last):
        for parameter in part.parameters():
            with torch.no_grad():
                parameter.normal_(std=0.05)
    return other


pixels = model.transform([picture_of])
index = model.finding(FINDING)
depths = (0, 4, len(model.model.blocks))
steps = {"as trained": model.model} | {
    ("classifier" if depth == 0 else f"+ last {depth} blocks"): randomised(depth)
    for depth in depths
}
asked = ["grad-cam", "hirescam", "eigencam", "attention-rollout"]
found = {
    name: {
        step: methods.explain(other, pixels, index, method=name)[0] for step, other in steps.items()
    }
    for name in asked
}
rows = {}
for name, each in found.items():
    first = each["as trained"].ravel()
    rows[methods.METHODS[name].title] = {
        step: np.corrcoef(first, one.ravel())[0, 1] if one.std() and first.std() else np.nan
        for step, one in each.items()
    }
display(pd.DataFrame.from_dict(rows, orient="index").style.format("{:.2f}", na_rep="no map"))

sheet, places = plt.subplots(len(asked), len(steps), figsize=(8, 8), layout="constrained")
for row, (name, each) in zip(places, found.items(), strict=True):
    for axes, (step, one) in zip(row, each.items(), strict=True):
        axes.imshow(one, cmap="inferno")
        axes.set_xticks([], [])
        axes.set_yticks([], [])
        if name == asked[0]:
            axes.set_title(step, fontsize=9)
    row[0].set_ylabel(methods.METHODS[name].title, fontsize=9)

# %% [markdown]
# ## 5 · What no map can tell
#
# Two questions that people ask of maps, and that need something else:
#
# - **Does it see the finding?** Take it away. The counterfactual below is the same phantom without
#   it. If the probability hardly falls, it was something else that the model saw, wherever the map
#   lies.
# - **Is it right?** A map of a wrong answer is as bright as one of a right answer.

# %%
rows = {}
for one in ill[:SCORED]:
    with_it, without = model.probabilities([chests.read(one), chests.counterfactual(one, FINDING)])
    found = methods.explain_study(model, chests.read(one), FINDING)
    region = chests.mask(one, FINDING)
    energy = scoring.energy_inside(found.map, region) if region.any() else np.nan
    rows[one] = {"with": with_it[index], "without": without[index], "energy": energy}
table = pd.DataFrame.from_dict(rows, orient="index")
pairs, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for _, row in table.iterrows():
    left.plot([0, 1], [row["with"], row["without"]], "o-", color="#009E73", alpha=0.4, ms=3)
left.set_xticks([0, 1], ["with", "without"])
left.set_ylabel(f"probability of {FINDING.lower()}")
right.plot(table["with"] - table["without"], table["energy"], "o", color="#0072B2", ms=4)
right.set(xlabel="fall of the probability", ylabel="share of the map on it")
fell = (table["with"] > table["without"]).mean()
points = 100 * (table["with"] - table["without"]).mean()
print(
    f"The probability fell in {fell:.0%} of {len(table)} studies, by {points:.1f} points on average."
)
print(methods.LIMITS)

# %% [markdown]
# ## Your turn
#
# 1. **A healthy picture.** Ask for the effusion of a study that has none. What does the map show?
# 2. **Another layer.** Give `explain_study` an earlier `layer`. Which method survives that?
# 3. **A shortcut.** Among pneumothoraces of `phantom-14`, a third have a drain. Train on them and see
#    whether the map follows the tube.
#
# <details><summary>Solutions</summary>
#
# 1. `well = [one for one in chests.ids("test") if chests.study(one).findings[FINDING] == 0]`, then
#    `methods.explain_study(model, chests.read(well[0]), FINDING)`. Look at `.peak`: the maps' own
#    scale says how little there is, which a map stretched to its own peak hides.
# 2. `from core.saliency import layers`; `layers.names(model.model)` lists them. LayerCAM was made for
#    that.
# 3. Use `Phantom("phantom-14")` in section 1 and `Pneumothorax` as the finding; the counterfactual
#    takes the air away and leaves the tube.
#
# </details>
#
# `python app.py` → **Saliency** has this run, links the views of several, and takes a picture of your
# own. Next: [your own radiographs](06_your_own_radiographs.ipynb).
