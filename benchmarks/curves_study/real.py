"""The 25 real logs, and what a person who knows training says of each after looking at it.

``must`` is what has to be said; ``may`` is what can be said or left, as both would be right. Each line says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.curves_study.study import Case
from trainlab.subjects.runlog.opening import open_log

# file -> run, must, may
TOLD: dict[str, tuple[int, str, str]] = {
    "baselines_ppo_log.txt": (-1, "", ""),
    # the second run was started and left at 7 %; 94 % of the lines are progress bars of the test
    "basicsr_iqa_nohup.out": (-1, "CRV017 CRV019", ""),
    "bsmae_log.txt": (-1, "", ""),
    # 26 000 progress bars around 2380 lines of numbers
    "chatglm_ccks50_stdout.txt": (-1, "CRV019", ""),
    "chatglm_ccks50_trainer_state.json": (-1, "", ""),
    "cyclegan_fog2rain_loss_log.txt": (-1, "", ""),
    # the warm-up of 1000 iterations is longer than the run of 300
    "detectron2_metrics.json": (-1, "CRV011", ""),
    # 0.69 to 0.50 in 50 epochs
    "events.out.tfevents.1727894649.retfound": (-1, "CRV008", ""),
    # the log ends at 4791 of 400 000 updates
    "fairseq_w2v2_hydra_train.log": (-1, "CRV017", ""),
    "guideddiff_khanh_log.txt": (-1, "", ""),
    # a rate of 1e-7: 14.8 to 10.2 in 47 000 steps, never near what no prediction scores
    "guideddiff_khanh_lr1e-7_progress.csv": (-1, "CRV003 CRV008 CRV021", "CRV004 CRV005"),
    "guideddiff_khanh_progress.csv": (-1, "", ""),
    "guideddiff_seismic_nulprefix_progress.csv": (-1, "", ""),
    "keras_lstm_readme.txt": (-1, "", "CRV017"),
    "lightning_rl4co_metrics.csv": (-1, "", ""),
    "lightning_slm_v0_metrics.csv": (-1, "", ""),
    # cancelled at 200 of 1000 iterations
    "megatron_n4.out": (-1, "CRV017", "CRV006"),
    # the first run has no targets: its losses are zero in 122 of 144 points
    "mmdet_None.log.json": (0, "CRV012", "CRV007 CRV008 CRV011 CRV017"),
    "moddednanogpt_adamw.log": (-1, "", ""),
    "moddednanogpt_opt_a.txt": (-1, "", ""),
    "nanogpt_bpc.wandb": (-1, "", ""),
    "nanogpt_bpc_output.log": (-1, "", ""),
    # NaN from the first step, interrupted by hand at 267 of 3000
    "sddemo_nan.wandb": (-1, "CRV001 CRV017", ""),
    # 0.006 to 0.156 at step 710, and twice its old level at the end
    "wdm_inpainting_progress.csv": (-1, "CRV006", "CRV002"),
}


def real(folder: Path) -> Iterator[tuple[Case, int]]:
    """Every real log that is there, with the run that is looked at."""
    for name, (run, must, may) in TOLD.items():
        if (folder / name).exists():
            log = open_log(folder / name)
            yield Case(name, "real", log, frozenset(must.split()), frozenset(may.split())), run
