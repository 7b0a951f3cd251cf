"""How fast a run is, against what people use today; each figure beside its baseline."""
