"""How often is the room `variation` right? Small healthy models, planted collapses, one table.

Run it with `python -m benchmarks.variation_study`; the exit code is 1 where a bar is missed.

Every kind of model comes in two sizes with other seeds, depths and activations. The first, *calibration*, is
what limits may be tuned on; the second, *held-out*, is what is reported beside it, and a few kinds exist only there.
"""
