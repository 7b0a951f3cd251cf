# %% [markdown]
# # The paper, task by task
#
# **You will learn** what the 18 transfer tasks of *Less Could Be Better* (Lian, Zhou, Yu, Wang; arXiv
# 2401.12215) are, how far their result can be believed as it stands, what the same grid in miniature
# costs on your machine, and how to run the real one.
#
# **It takes** about two minutes of computing on two cores, and half an hour of reading. The real grid
# takes days on a GPU; this notebook says how many.
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
import pandas as pd
from IPython.display import Markdown, display

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress widgets needed

from core import paper, speed
from core.training.run_here import run_in_process
from core.models import adapters
from core.models.backbones.registry import BACKBONES
from core.experiments.paper import claims, figure, outcome, plan, tables
from core.runs.store import open_store
from core.metrics.seed_tests import binomial_interval
from core.workspace import open_workspace

FAST = os.environ.get("CXR_FAST") == "1"  # plans only
workspace = open_workspace()  # CXR_WORKSPACE, or a folder of your own
store = open_store(workspace, create=True)

# %% [markdown]
# ## 1 · Eighteen tasks
#
# Two backbones (ViT-B/16, pre-trained by masked records and by masked autoencoding) × three data sets
# × 1%, 10% and 100% of the labels, each by LoRA and by full fine-tuning. `--recipe paper` and the
# **Paper** page fill in what stands here.

# %%
findings = {"nih": 14, "chexpert": 5, "rsna": 1}
rows = []
for task in paper.TASKS:
    recipe = task.recipes["lora"]
    # Both backbones are ViT-B/16, so that one count serves both.
    count = adapters.count(BACKBONES["mrm"], recipe.adapter("lora"), findings[task.data])
    rows.append(
        {
            "task": task.name,
            "optimizer": recipe.optimizer,
            "rate": f"{'base ' if recipe.base else ''}{recipe.lr:g}",
            "epochs": recipe.epochs,
            "rank": recipe.rank,
            "trains": f"{count.share:.2%}",
            "published LoRA": task.published["lora"],
            "published full": task.published["full"],
        }
    )
display(pd.DataFrame(rows).set_index("task").style.format(precision=3, na_rep="–"))

# %% [markdown]
# Of LoRA one figure only could be read in a source, 80.6% on NIH at 1%; of full fine-tuning those of
# MRM. The rest is told as *13 of 18 tasks won, by at most 2.9 points*.
#
# ## 2 · How far does “13 of 18” reach?
#
# If a coin decided each task, 13 heads or more of 18 would come up in one of twenty tries. The exact
# interval says the same: it does not exclude one half. And the tasks are not even independent, since
# they share backbones, patients and one seed.

# %%
from scipy.stats import binom

share = binomial_interval(13, 18)
print(
    f"13 of 18 = {share.value:.0%}, 95% interval {share.low:.0%} to {share.high:.0%}; "
    f"by a coin 13 or more: {binom.sf(12, 18, 0.5):.1%}"
)
bars, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
wins = list(range(19))
axes.bar(wins, binom.pmf(wins, 18, 0.5), color=["#D55E00" if w >= 13 else "0.75" for w in wins])
axes.set(xlabel="tasks of 18 that a coin wins", ylabel="probability", xticks=wins[::3])
for claim in paper.CLAIMS.values():
    print("·", claim)

# %% [markdown]
# ## 3 · The grid in miniature
#
# Embedded backbones, phantoms in place of the three data sets, the same questions: 36 runs a seed.
# Before any of them starts, each is priced from this machine's speed.

# %%
tasks = plan.choose(embedded=True, only=["rsna"] if FAST else [])
steps = plan.survey(plan.cells(tasks), store.list(), workspace)
rows = [
    {
        "run": step.cell.name,
        "state": "done" if step.done else "to do",
        "seconds": round(step.seconds or 0),
        "MB": round((step.disk or 0) / 1e6, 1),
    }
    for step in steps
]
table = pd.DataFrame(rows).set_index("run")
display(table.head(8))
print(
    f"{len(table)} runs, {(table['state'] == 'to do').sum()} to do: about "
    f"{table['seconds'].sum() / 60:.0f} min and {table['MB'].sum():.0f} MB here."
)
print("In a terminal: python -m core paper --embedded --out verdict.md --out verdict.png")

# %% [markdown]
# This notebook carries out one task of it (1% of the labels of `phantom-1`, both methods); the
# command above does the rest, can be killed at any time and goes on. Then the same function that rules
# on the abstract's claims looks at whatever your workspace holds.

# %%
chosen = [] if FAST else plan.choose(embedded=True, only=["rsna"], fractions=[0.01])[:1]
for cell in plan.cells(chosen):
    run = carry_out(cell.spec, store, workspace)
    print(f"{cell.name}: test AUROC {run.scores['test']['auroc']:.3f}, {run.seconds:.0f} s")

outcomes = outcome.gather(tasks, store.list(), workspace)
judged = claims.judge(outcomes)
report = tables.Report(judged, outcome.efficiency(outcomes), "python -m core paper --embedded")
for line in tables.summary(report):
    display(Markdown(line))

# %%
drawn = figure.figure(report)
drawn.set_dpi(80)
display(drawn)

# %% [markdown]
# Hollow marks are not decided: one seed can be told apart from the next by nothing. More seeds:
# `python -m core paper --embedded --seeds 5`.
#
# ## 4 · The real one
#
# 1. **Weights.** Ask the authors' pages for the two checkpoints and check that each fits:
#    `python -m core models check mrm --weights MRM.pth`.
# 2. **Data.** NIH ChestX-ray14 (45 GB), CheXpert small (11 GB), RSNA Pneumonia (4 GB), each in its
#    own layout: `python -m core data check nih --root DIR --metadata-only`.
# 3. **Pictures once.** `python -m core data cache nih --root DIR --side 256` decodes all of them into
#    uint8, 65 kB each.
# 4. **Plan.** `python -m core paper --only nih --root nih=DIR --weights mrm=MRM.pth --dry-run`.
# 5. **Run.** The same without `--dry-run`, on the machine with the GPU. Kill it when you must; the
#    same command goes on.
#
# What will it take? The arithmetic below counts operations: three forward passes' worth a training
# image, one a validation image, over all epochs. How fast a GPU does them is **assumed**, not measured
# here: 40% of an A100's 312 TFLOP/s in bf16, and decoded pictures. Expect the true figure within a
# factor of two or three; step 4 measures yours.

# %%
IMAGES = {
    "nih": (78_468, 11_219, 22_433),
    "chexpert": (223_414, 234, 668),
    "rsna": (25_184, 1_500, 3_000),
}
ASSUMED = 0.4 * 312e12  # operations a second
rows = []
for task in paper.TASKS:
    train, val, test = IMAGES[task.data]
    each = speed.forward_operations(task.backbone, BACKBONES[task.backbone].input_size)
    for method in paper.METHODS:
        epochs = task.recipes[method].epochs
        passes = epochs * (3 * train * task.fraction + val) + test
        rows.append(
            {
                "backbone": task.backbone,
                "data": task.data,
                "labels": f"{task.fraction:.0%}",
                "method": method,
                "hours": passes * each / ASSUMED / 3600,
            }
        )
hours = pd.DataFrame(rows).pivot_table(
    index=["backbone", "data", "labels"], columns="method", values="hours", sort=False
)
display(hours.style.format("{:.1f}"))
print(f"All 36 runs of one seed: about {hours.to_numpy().sum():.0f} GPU hours as assumed above.")
pictures = sum(sum(counts) for counts in IMAGES.values())
print(f"Cache at 256 px: {pictures * 256**2 / 1e9:.0f} GB, beside about 60 GB of downloads.")

# %%
chart, axes = plt.subplots(figsize=(8, 4), layout="constrained")
hours.plot.barh(ax=axes, color={"lora": "#009E73", "full": "#D55E00"}, log=True)
axes.set(xlabel="GPU hours, assumed (logarithmic)", ylabel="")
axes.invert_yaxis();

# %% [markdown]
# Note where the hours are. With MRM's recipes on NIH a run with all labels costs 18 times one with 1%
# of them, and four fifths of that 1% run are *validation*. The arithmetic counts LoRA like full
# fine-tuning: it saves memory and disk, and little time.
#
# ## Your turn
#
# 1. **Which task first?** You have 24 GPU hours. Which tasks with three seeds each tell most?
# 2. **How many tasks** would have to be won for the interval to exclude a coin?
# 3. **Read the recipe** of CXR-MAE at 1% by full fine-tuning. Which of its settings is not LoRA's?
#
# <details><summary>Solutions</summary>
#
# 1. The 1% tasks: the claim is about few labels, they are the cheapest, and three seeds of them fit.
# 2. `next(k for k in range(19) if binomial_interval(k, 18).low > 0.5)`: 14.
# 3. `paper.task("cxr-mae-nih-1").spec("full").resolved()`: a layer-wise decay of 0.65 and a rate of
#    its own.
#
# </details>
#
# `python app.py` → **Paper** shows all of it and fills in the launch form. Next: [pre-train a small
# foundation model](08_pretrain_a_small_foundation_model.ipynb).
