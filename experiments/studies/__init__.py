"""Studies: one small declaration a file, each named `STUDY`; see `experiments.ablation.study.Study`."""
