# %% [markdown]
# # Which rank, and where?
#
# **You will learn** to plan a sweep and know its price before it starts, to compare many adapters by
# AUROC *and* by what they train, to read a Pareto front, and to mistrust a winner that was chosen on
# the data it is judged by.
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
from IPython.display import HTML, Markdown, display

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress widgets needed

from core import sweep
from core.data.phantoms.dataset import Phantom
from core.data.datasets.write_folder import save
from core.evaluation.evaluate import compare_runs, evaluate_run
from core.training.run_here import run_in_process
from core.models.tuning.registry import TUNING_METHODS
from core.runs.store import open_store
from core.config.run import RunSpec
from core.workspace import open_workspace
from explorer.figures.dots import Point, cost_and_score
from explorer.figures.palette import run_styles
from explorer.figures.standalone import picture

FAST = os.environ.get("CXR_FAST") == "1"  # a first look: too short to learn anything from
STUDIES = {"train": 24, "val": 16, "test": 24} if FAST else {"train": 400, "val": 100, "test": 300}
RANKS = (1, 4) if FAST else (1, 4, 16)
TARGETS = ("qv",) if FAST else ("qv", "all")
RATES = (3e-3,) if FAST else (1e-3, 3e-3)
WAYS = ("lora", "bitfit") if FAST else ("lora", "dora", "vera", "ia3", "bitfit", "linear", "full")
FRACTION, EPOCHS = (1.0, 1) if FAST else (0.3, 6)

pd.set_option("display.max_colwidth", None)  # whole sentences
workspace = open_workspace()  # CXR_WORKSPACE, or a folder of your own
store = open_store(workspace, create=True)

# %% [markdown]
# ## 1 · A sweep, and its price
#
# Rank × targets × learning rate. `sweep.plan` says how many of these runs are new and what they will
# take, before a second is spent; `python -m core sweep --dry-run` does the same in a terminal, and
# the explorer before it queues. Everything that is not varied is equal, the seed and with it the
# labelled patients included: that makes the comparison fair, and blind to the seed.

# %%
chests = Phantom("phantom-5", size=96, **STUDIES)
folder = save(chests, workspace.root / "tutorials" / f"phantoms-{STUDIES['train']}")
settings = {
    "data.name": "folder",
    "data.root": folder,
    "data.called": "tutorial phantoms",
    "data.label_fraction": FRACTION,
    "model.input_size": 64,
    "train.epochs": EPOCHS,
}
specs = [
    RunSpec.of(**settings, **{"adapter.rank": rank, "adapter.targets": targets, "train.lr": rate})
    for targets in TARGETS
    for rate in RATES
    for rank in RANKS
]
plan = sweep.plan(specs, store, workspace.cache)
print(f"{len(plan.new)} new runs of {len(specs)}, about {plan.seconds:.0f} s ({plan.basis}).")


# %%
def carry_out_all(specs):
    says, ended = display(Markdown("…"), display_id=True), []
    for i, spec in enumerate(specs, 1):
        says.update(Markdown(f"Run {i} of {len(specs)}: {spec.title()}"))
        ended.append(carry_out(spec, store, workspace))
    says.update(Markdown(f"{len(ended)} runs are in the store."))
    return ended


swept = carry_out_all(specs)
grid = pd.DataFrame(
    {
        "targets": run.spec.adapter.targets,
        "learning rate": run.spec.train.lr,
        "rank": run.spec.adapter.rank,
        "validation AUROC": run.best_auroc,
    }
    for run in swept
).pivot_table(index=["targets", "learning rate"], columns="rank", values="validation AUROC")
display(grid.style.format("{:.3f}").background_gradient(cmap="Greens", axis=None))

lines, axes = plt.subplots(figsize=(6.5, 3), layout="constrained")
for (targets, rate), row in grid.iterrows():
    line = "-" if targets == "qv" else "--"
    axes.semilogx(row.index, row, f"o{line}", base=2, label=f"{targets}, rate {rate:g}")
axes.set_xticks(RANKS, RANKS)
axes.set(xlabel="rank", ylabel="validation AUROC")
axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# Look along the rows before you look for a winner. Which of the three moves the figure most here, and
# which least? With few labels it is often not the rank that matters: remember that at a fixed alpha a higher rank also turns the update down
# ([notebook 02](02_lora_inside.ipynb)).
#
# ## 2 · Other methods on the same loop
#
# One training loop serves all of them; a method is an entry in a catalogue that says what trains.
# DoRA learns direction and size apart, VeRA trains only scales of frozen random matrices, (IA)³
# scales activations, BitFit trains the biases.

# %%
base = RunSpec.of(**settings, **{"adapter.rank": 4})
others = carry_out_all(sweep.grid(base, methods=WAYS))
rows = {}
for run in others:
    found = evaluate(workspace.run(run.id), groups=False).macro
    method = METHODS[run.spec.adapter.method]
    rows[method.title] = {
        "trains": f"{run.trainable:,}",
        "share": f"{run.trainable / run.total:.2%}",
        "test AUROC": f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})",
        "what it does": method.sentence,
    }
display(pd.DataFrame.from_dict(rows, orient="index"))

# %% [markdown]
# ## 3 · The Pareto front
#
# A run is on the front if no other is both cheaper and better. The bars are 95% intervals over
# patients: where they overlap along the front, the step from one to the next was not shown to be
# worth its parameters.

# %%
runs = list({run.id: run for run in [*others, *swept]}.values())
scores = {run.id: evaluate(workspace.run(run.id), groups=False).macro for run in runs}
front = [
    run
    for run in runs
    if not any(
        other.trainable <= run.trainable
        and scores[other.id].value >= scores[run.id].value
        and other.id != run.id
        for other in runs
    )
]
front.sort(key=lambda run: run.trainable)


def name(run):
    adapter = run.spec.adapter
    if adapter.method not in ("lora", "dora", "vera"):
        return adapter.method
    rate = f", {run.spec.train.lr:g}" if run in swept else ""
    return f"{adapter.method} r{adapter.rank} {adapter.targets}{rate}"


shown = [*front, *(run for run in others if run not in front)]
styles = run_styles([run.spec.adapter.method for run in shown])
points = [
    Point(
        name(run), run.trainable, scores[run.id], style, f"{name(run)}: {scores[run.id].value:.3f}"
    )
    for run, style in zip(shown, styles, strict=True)
]
display(HTML(picture(cost_and_score(points, title="Test AUROC against what trains", height=340))))
print("On the front:", ", ".join(name(run) for run in front))

# %% [markdown]
# ## 4 · The winner's curse
#
# The best of many is partly the luckiest. We choose on *validation* and look at *test*: the chosen
# run's place among the others there, and the paired difference from a plain LoRA of rank 4.

# %%
chosen = max(runs, key=lambda run: run.best_auroc)
plain = next(run for run in others if run.spec.adapter.method == "lora")
ranked = sorted(runs, key=lambda run: -scores[run.id].value)
print(
    f"Best of {len(runs)} on validation: {name(chosen)}, {chosen.best_auroc:.3f} there and "
    f"{scores[chosen.id].value:.3f} on test, where it is number {ranked.index(chosen) + 1}."
)
if chosen.id != plain.id:
    gap = compare(workspace.run(chosen.id), workspace.run(plain.id)).macro.difference
    print(
        f"Against plain LoRA r 4: {100 * gap.value:+.1f} points "
        f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f} over patients, one seed)."
    )

spread, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
axes.plot([run.best_auroc for run in runs], [scores[run.id].value for run in runs], "o", ms=5)
axes.plot(chosen.best_auroc, scores[chosen.id].value, "o", ms=11, mfc="none", mec="#D55E00")
axes.set(xlabel="validation AUROC (best epoch)", ylabel="test AUROC")
if not FAST:
    both = np.corrcoef([run.best_auroc for run in runs], [scores[run.id].value for run in runs])
    axes.set_title(f"correlation {both[0, 1]:.2f}", fontsize=9)

# %% [markdown]
# ## Your turn
#
# 1. **A fair rank.** Repeat the sweep with alpha = 8 × rank. Does the rank now do more, or less?
# 2. **Where?** Adapt only the last four blocks, then only the first four.
# 3. **Another seed.** Is the same method on the front with seed 1?
#
# <details><summary>Solutions</summary>
#
# 1. Add `"adapter.alpha": 8.0 * rank` to the dictionary of each run.
# 2. `RunSpec.of(**settings, **{"adapter.blocks": "8-11"})`, and `"0-3"`.
# 3. `sweep.grid(base, methods=WAYS, seeds=(0, 1, 2))`; then `verdict.grouped` as in
#    [notebook 03](03_how_many_labels.ipynb), which is what **Compare** does with them.
#
# </details>
#
# `python app.py` → **Compare** draws the same front of up to six runs; **Launch** plans the same
# sweep. Next: [what does it look at](05_what_does_it_look_at.ipynb).
