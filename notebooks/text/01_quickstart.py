# %% [markdown]
# # Few labels: is LoRA worth it?
#
# You have a foundation model for chest radiographs and a few hundred labelled studies. You can train
# a linear head on frozen features, nudge the query and value projections of every block (LoRA), or
# tune everything. Which reads better, by how much, and where does each look?
#
# **You will learn** to look at the data, to price two runs, to train them, to compare them with
# intervals, and to ask both where they look on the same study. The explorer (`python app.py`) does
# the same in a browser.
#
# **It takes** about three minutes of computing on two cores, and twenty minutes of reading.
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
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress widgets needed

from core import DISCLAIMER, cost, evaluate, train, verdict
from core.data.datasets.registry import open_dataset
from core.reporter import NullReporter
from core.runs import queue, worker
from core.runs.store import open_store
from core.saliency import methods, request
from core.config.run import RunSpec
from core.classifier.trained import load_trained
from core.workspace import open_workspace

FAST = os.environ.get("CXR_FAST") == "1"  # a first look: too short to learn anything from
EPOCHS, LABEL_FRACTION = (2, 0.01) if FAST else (6, 0.1)

workspace = open_workspace()  # CXR_WORKSPACE, or a folder of your own
store = open_store(workspace, create=True)
COLOUR = {"lora": "#009E73", "linear": "#0072B2"}
MARKER = {"lora": "o", "linear": "D"}

# %% [markdown]
# ## 1 · The radiographs
#
# `phantom-14` is drawn, not acquired: lungs, ribs, heart, vessels, lines and the fourteen findings of
# NIH ChestX-ray14, from a seed. Nobody was irradiated, nobody's privacy is at stake, and the truth is
# known to the pixel. Below, for each finding, the test study that has the least else. Patient's right
# is on your left; the boxes belong to the finding in the title. How many would you have called?

# %%
dataset = open_dataset("phantom-14")
table = dataset.table[dataset.table["split"] == "test"]
load = table[list(dataset.findings)].sum(axis=1)
purest = {finding: str(load[table[finding] == 1].idxmin()) for finding in dataset.findings}


def film(axes, picture, title=""):
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
    for x, letter in ((0.04, "R"), (0.96, "L")):
        axes.text(x, 0.93, letter, color="w", transform=axes.transAxes, ha="center", fontsize=8)


def outline(axes, boxes):
    for box in boxes:
        edge = plt.Rectangle((box.x, box.y), box.width, box.height, fill=False, ec="#E69F00")
        axes.add_patch(edge)


sheet, places = plt.subplots(3, 5, figsize=(11, 7.2), layout="constrained")
film(places.flat[0], dataset.read(str(load.idxmin())), "no finding")
for axes, (finding, name) in zip(places.flat[1:], purest.items(), strict=True):
    film(axes, dataset.read(name), finding.replace("_", " "))
    outline(axes, [box for box in dataset.boxes(name) if box.finding == finding])

# %%
FINDING = "Mass"
name = purest[FINDING]
with_it, without = dataset.read(name), dataset.counterfactual(name, FINDING)
change = with_it.astype(int) - without

pair, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
film(left, with_it, f"{name}: with {FINDING.lower()}")
film(middle, without, "the same patient without")
film(right, with_it, "what the finding changed")
limit = max(1, int(abs(change).max()))
shown = right.imshow(change, cmap="berlin", vmin=-limit, vmax=limit)  # dark where nothing changed
for axes in (left, right):
    axes.contour(dataset.mask(name, FINDING), [0.5], colors="#E69F00", linewidths=1)
pair.colorbar(shown, ax=right, label="grey levels");

# %% [markdown]
# ## 2 · Two runs, and what they will cost
#
# A `RunSpec` is everything that decides what a run computes: data, backbone, method, training. It is
# frozen, checked when it is built, and has a fingerprint: two runs with one fingerprint are the same
# run. What you leave out takes the value that suits backbone, method and optimizer: the study's, where
# it published one; for the small embedded backbone, one chosen on validation studies. So the linear
# probe below is *made from* the LoRA run and yet gets a learning rate of its own. Labels are drawn by
# whole patients, never by single studies.

# %%
settings = {
    "data.name": "phantom-14",
    "data.label_fraction": LABEL_FRACTION,
    "model.backbone": "embedded-mae",
    "adapter.method": "lora",
    "adapter.rank": 4,
    "train.epochs": EPOCHS,
    "train.seed": 0,
}
lora = RunSpec.of(**settings)
specs = {"lora": lora, "linear": verdict.counterpart(lora, "linear")}
costs = {method: cost.estimate(spec, workspace.cache) for method, spec in specs.items()}

price = {
    method: {
        "labelled images": f"{one.images:,}",
        "patients": f"{one.patients:,}",
        "validation / test images": f"{one.val_images:,} / {one.test_images:,}",
        "trains": f"{one.trainable:,} of {one.total:,} ({one.share:.2%})",
        "expected": f"{one.seconds:.0f} s, and once the time to draw the phantoms",
    }
    for method, one in costs.items()
}
display(pd.DataFrame(price))
print("Positives:", ", ".join(f"{name} {n}" for name, n in costs["lora"].positives.items()))
print("In a shell:", cost.command_line(lora))


# %% [markdown]
# ## 3 · Train
#
# One loop trains both; they differ in which parameters move and in their published settings. The
# epoch with the best validation AUROC is kept. The probe needs each study's features only once, so
# its epochs take next to nothing. Interrupt the kernel if you must: the run then ends as *stopped*,
# with a checkpoint, and the explorer can resume it.

# %%
class Curve(Silence):
    """Listens to a run: says what it is doing, redraws the validation AUROC after each epoch."""

    def __init__(self):
        self.method, self.points = "", {}
        self.figure, self.axes = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
        plt.close(self.figure)  # shown by hand, below
        self.axes.set(xlabel="epoch", ylabel="validation AUROC", xlim=(0, EPOCHS + 0.5))
        self.axes.xaxis.get_major_locator().set_params(integer=True)
        self.axes.grid(alpha=0.3)
        self.says = display(Markdown("…"), display_id=True)
        self.shows = display(self.figure, display_id=True)

    def listen(self, method):
        self.method, self.points[method] = method, ([], [])
        style = {"color": COLOUR[method], "marker": MARKER[method], "label": method}
        (self.line,) = self.axes.plot([], [], ls="-" if method == "lora" else ":", **style)
        self.axes.legend(loc="lower right", frameon=False)

    def progress(self, fraction, seconds_left, phase):
        self.says.update(Markdown(f"**{self.method}**: {phase}"))

    def metric(self, name, value, *, epoch, step):
        if name == "val/auroc":
            for values, value_ in zip(self.points[self.method], (epoch, value), strict=True):
                values.append(value_)
            self.line.set_data(*self.points[self.method])
            self.axes.relim()
            self.axes.autoscale_view(scalex=False)
            self.shows.update(self.figure)


def carry_out(spec, folder, cache, report, resume):
    return train.run(spec, folder, cache, report, resume=resume)


curve, runs = Curve(), {}
for method in ("linear", "lora"):
    curve.listen(method)
    run = queue.claim_here(store, specs[method])
    worker.work(store, workspace, run.id, carry_out, observer=curve)
    runs[method] = store.get(run.id)
    if runs[method].state != "completed":
        raise RuntimeError(f"{run.name}: {runs[method].failure_reason or runs[method].state}")
ends = [f"**{name}** best {run.best_auroc:.3f}, {run.seconds:.0f} s" for name, run in runs.items()]
curve.says.update(Markdown("; ".join(ends)))

# %% [markdown]
# ## 4 · Which is better, and is it real?
#
# Test AUROC with 95% intervals: DeLong per finding, studies of one patient taken together; bootstrap
# over patients for the mean. *Holm p* is the paired test of the two runs on the same studies,
# corrected for having looked at fourteen findings. The verdict comes last because it is the only line
# that is allowed to claim anything: it wants the interval over **seeds** to exclude zero as well as
# the one over patients. It counts every seed in your workspace; so far that is one.

# %%
folders = {method: workspace.run(run.id) for method, run in runs.items()}
scores = {method: evaluate.evaluate(folder) for method, folder in folders.items()}
gap = evaluate.compare(folders["lora"], folders["linear"])


def cell(interval):
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


rows = {
    one.finding: {
        "positives": f"{one.positives}",
        **{method: cell(scores[method].findings[i].auroc) for method in specs},
        "LoRA − linear, points": f"{100 * one.test.difference.value:+.1f}",
        "Holm p": f"{one.holm_p:.3f}",
    }
    for i, one in enumerate(gap.findings)
}
rows["mean"] = {
    "positives": "",
    **{method: cell(scores[method].macro) for method in specs},
    "LoRA − linear, points": f"{100 * gap.macro.difference.value:+.1f}",
    "Holm p": "",
}
display(pd.DataFrame.from_dict(rows, orient="index").rename_axis("test AUROC"))

alike = {verdict.same_but_seed(spec) for spec in specs.values()}
trials = [
    verdict.Trial(run.id, run.spec, workspace.run(run.id))
    for run in reversed(store.list())  # the latest of each seed counts
    if run.state == "completed" and verdict.same_but_seed(run.spec) in alike
]
first, second = sorted(verdict.grouped(trials), key=lambda one: one.spec.adapter.method == "linear")
judged = verdict.verdict(first, second)
display(Markdown(f"> **{judged.sentence}**\n>\n> " + " ".join(judged.notes)))

# %%
dots, axes = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
order = np.argsort([one.auroc.value for one in scores["lora"].findings])
for method, shift in (("lora", 0.16), ("linear", -0.16)):
    found = [scores[method].findings[i] for i in order]
    values = np.array([[one.auroc.value, one.auroc.low, one.auroc.high] for one in found]).T
    spread = (values[0] - values[1], values[2] - values[0])
    style = {"color": COLOUR[method], "fmt": MARKER[method], "ms": 5, "label": method}
    axes.errorbar(values[0], np.arange(len(found)) + shift, xerr=spread, **style)
axes.set_yticks(range(len(order)), [found[i].finding.replace("_", " ") for i in range(len(order))])
axes.axvline(0.5, color="0.6", lw=1)
axes.set_xlabel("test AUROC, 95% interval")
axes.legend(loc="lower right", frameon=False);

# %% [markdown]
# ## 5 · Where does each look?
#
# Both models are read back from disk, as the explorer does it, and explain the same study for the
# same finding with Grad-CAM: the largest effusion among twenty studies with little else, so that
# nobody can say it was hard to see. With each map come the probability it explains, and how
# much of the map lies on the finding. Then the question that only a phantom can answer: **what does
# the model say of the same patient without it?** If the probability hardly falls, it was not the
# finding that it saw. If it falls while the map lies elsewhere, doubt the map.

# %%
FINDING = "Effusion"  # any of dataset.findings
few = load[table[FINDING] == 1].nsmallest(20).index.astype(str)  # little else in them
name = max(few, key=lambda one: dataset.mask(one, FINDING).sum())  # and much of this
models = {method: load_trained(folder) for method, folder in folders.items()}
asked = {
    method: request.explain_study_of(model, dataset, name, FINDING)
    for method, model in models.items()
}
without = dataset.counterfactual(name, FINDING)

light_box, places = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
original = asked["lora"]
film(places[0], original.image, f"{name}: {FINDING}")
outline(places[0], original.boxes)
for axes, (method, one) in zip(places[1:], asked.items(), strict=True):
    heat, peak = one.explanation.map, one.explanation.peak or 1e-9
    film(axes, one.image, f"{method}: probability {one.explanation.probability:.2f}")
    strength = np.clip(np.nan_to_num(heat) / peak, 0, 1)
    laid = axes.imshow(heat, cmap="inferno", vmin=0, vmax=peak, alpha=0.7 * strength)
    light_box.colorbar(laid, ax=axes, shrink=0.7, label="activation × gradient, this image")
light_box.supxlabel(DISCLAIMER, fontsize=8)

for method, one in asked.items():
    after = methods.explain_study(models[method], without, FINDING).probability
    print(f"{method}: {one.explanation.probability:.3f} with, {after:.3f} without the finding.")
    if one.scores and not np.isnan(one.scores.energy):
        where = "on" if one.scores.hit else "off"
        share, even = one.scores.energy, one.scores.area
        print(f"  Peak {where} it; {share:.0%} of the map on it, {even:.0%} if it were even.")
    for note in one.explanation.notes:
        print(f"  {note}")
print(methods.LIMITS)

# %% [markdown]
# ## Your turn
#
# 1. **Is it real?** Set `"train.seed"` in section 2 to 1, run sections 2 to 4 again, then once more
#    with 2. The verdict takes up all of them. How many seeds does it need to make up its mind?
# 2. **Fewer labels, then more.** Set `LABEL_FRACTION` to 0.02, then 0.5. Where do the two cross, if
#    they do?
# 3. **Catch a shortcut.** Take a pneumothorax that came with a drain. Which of the two models still
#    calls it when the counterfactual takes the air away and leaves the tube?
#
# <details><summary>Solutions</summary>
#
# 1. Three seeds give a t-interval with a factor of 4.3, five one of 2.8: the verdict makes up its
#    mind between the two, if there is anything to decide.
# 2. The runs of a fraction are a group of their own; [notebook 03](03_how_many_labels.ipynb) draws
#    the whole curve.
# 3. A third of the pneumothoraces have a drain. Set `FINDING = "Pneumothorax"` in section 5, look for
#    a tube among `few`, and compare the two probabilities that are printed.
#
# </details>
#
# Then `python app.py`: **Compare** has these two runs already, **Saliency** links their views, and
# **Paper** fills in any of the study's 18 tasks (Lian et al., arXiv 2401.12215). For radiographs from
# patients, name `nih` with the folder that holds NIH ChestX-ray14 and change nothing else. Next: [LoRA, taken apart](02_lora_inside.ipynb).
