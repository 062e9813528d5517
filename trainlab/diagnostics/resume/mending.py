"""The lines of code to add: for a part that the file lacks, and for a piece that a load does not restore."""

from __future__ import annotations

from trainlab.diagnostics.resume.result import ResumeResult

__all__ = ["SAVE", "mend"]

SAVE = {
    "model": "save 'model': model.state_dict(), and model.load_state_dict(ckpt['model']) on the way back",
    "optimizer": "save 'optimizer': optimizer.state_dict(), and optimizer.load_state_dict(ckpt['optimizer'])",
    "scheduler": "save 'scheduler': scheduler.state_dict(), and scheduler.load_state_dict(ckpt['scheduler']) after the optimizer's",
    "grad scaler": "save 'scaler': scaler.state_dict(), and scaler.load_state_dict(ckpt['scaler'])",
    "EMA": "save 'ema': ema.state_dict(), and ema.load_state_dict(ckpt['ema'])",
    "RNG torch": "save 'rng': torch.get_rng_state(), and torch.set_rng_state(ckpt['rng']) as the last line of loading",
    "RNG CUDA": "save 'cuda_rng': torch.cuda.get_rng_state_all(), and torch.cuda.set_rng_state_all(ckpt['cuda_rng'])",
    "RNG numpy": "save 'numpy_rng': np.random.get_state(), and np.random.set_state(ckpt['numpy_rng'])",
    "RNG python": "save 'python_rng': random.getstate(), and random.setstate(ckpt['python_rng'])",
    "data position": "save 'iter': iter and the state of the shuffling generator at the epoch's start; skip that many batches on the way back",
}
MEND = {
    "weights": "load the weights: model.load_state_dict(ckpt['model'])",
    "buffers": "keep the buffers (BatchNorm's running statistics): save model.state_dict() whole and load it with strict=True",
    "EMA": SAVE["EMA"],
    "optimizer": SAVE["optimizer"],
    "learning rate": "load the optimizer after the scheduler is made, and set no rate by hand after that",
    "scheduler": SAVE["scheduler"],
    "grad scaler": SAVE["grad scaler"],
    "data": SAVE["data position"],
    "counters": "save the counts with the rest (ckpt['iter']), and set them when loading",
    "other values": "save what differs with the rest, and put it back when loading",
}


def mend(r: ResumeResult, name: str) -> str:
    """The line to add for a piece; a random stream is spoken of as the one that it is."""
    if name != "RNG":
        return MEND[name]
    lines = []
    for where in r.piece_where[r.piece_name.index(name)].partition(" and ")[0].split(", "):
        stream = where.removesuffix("'s global stream")
        own = f"save {where}.get_state(), and {where}.set_state(…) when loading"
        lines.append(own if stream == where else SAVE[f"RNG {stream}"])
    return "; ".join(lines)
