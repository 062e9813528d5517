"""Logs as tools print them, written by hand, and what is in them: (points, first step, last step, first, last)."""

from __future__ import annotations

import numpy as np

NAN = float("nan")
N = range(1, 21)
FORMATS: dict[str, tuple[str, dict[str, tuple[float, ...]]]] = {}


def add(name: str, text: str, **series: tuple[float, ...]) -> None:
    FORMATS[name] = (
        text,
        {key.replace("__", "/").replace("_at_", "@"): value for key, value in series.items()},
    )


def add_named(name: str, text: str, series: dict[str, tuple[float, ...]]) -> None:
    FORMATS[name] = (text, series)


def lines(form, over=N) -> str:
    return "".join(form(i) + "\n" for i in over)


def nested(form, epochs, batches) -> str:
    return "".join(form(e, b) + "\n" for e in epochs for b in batches)


def bar(i: int, of: int) -> str:
    return f"{100 * i // of:3d}%|{'█' * (10 * i // of)}{' ' * (10 - 10 * i // of)}| {i}/{of}"


add(
    "Hugging Face, evaluation between",
    lines(
        lambda i: (
            f"{{'loss': {2 / i:.4f}, 'grad_norm': 0.5, 'learning_rate': 1e-05, 'epoch': {i * 0.1:.2f}}}"
            + (
                f"\n{{'eval_loss': {2.5 / i:.4f}, 'eval_runtime': 12.3, 'epoch': {i * 0.1:.2f}}}"
                if i % 5 == 0
                else ""
            )
        )
    ),
    loss=(20, NAN, NAN, 2, 0.1),
    eval_loss=(4, NAN, NAN, 0.5, 0.125),
    learning_rate=(20, NAN, NAN, 1e-5, 1e-5),
)
add(
    "axolotl: dicts between bars",
    lines(
        lambda i: (
            f"\r{bar(i * 10, 200)} [00:{i:02d}<03:10, 10.0it/s]\n{{'loss': {1 / i:.4f}, 'epoch': {i / 20:.2f}}}\n\r{bar(i * 10, 200)} [00:{i:02d}<03:10, 10.0it/s]"
        )
    ),
    loss=(20, 10, 200, 1, 0.05),
)
add(
    "timm",
    nested(
        lambda e, b: (
            f"Train: {e} [{b:>4d}/500 ({b // 5:>3d}%)]  Loss: {6 / (e + 1):.3f} (6.5)  Time: 0.512s,  500.1/s  (0.6s,  420.1/s)  LR: 1.000e-06  Data: 0.010 (0.1)"
        ),
        range(3),
        range(0, 500, 50),
    )
    + "Test: [   0/48]  Time: 1.2 (1.2)  Loss:  0.5 (0.5)  Acc@1: 90.0 ( 90.0)\n *  Acc@1 76.1 (23.9) Acc@5 92.8 (7.2)\n",
    Loss=(30, 0, 1450, 6, 2),
    LR=(30, 0, 1450, 1e-6, 1e-6),
    test__Loss=(1, 1450, 1450, 0.5, 0.5),
    val__Acc_at_1=(1, 1450, 1450, 76.1, 76.1),
)
add(
    "PyTorch's ImageNet example",
    nested(
        lambda e, b: (
            f"Epoch: [{e}][{b:>4d}/5005]\tTime  0.345 ( 0.345)\tLoss {6 / (e + 1):.4e} (6.95e+00)\tAcc@1   0.00 (  0.10)"
        ),
        range(2),
        range(0, 5005, 1000),
    )
    + " *   Acc@1 10.1 Acc@5 20.2\n",
    Loss=(12, 0, 10005, 6, 3),
    Acc_at_1=(12, 0, 10005, 0, 0),
    val__Acc_at_1=(1, 10005, 10005, 10.1, 10.1),
)
add(
    "torchvision's references",
    nested(
        lambda e, b: (
            f"Epoch: [{e}]  [ {b:>3d}/400]  eta: 0:12:03  lr: 0.1  loss: {3 / (e + 1):.4f} (1.95)  acc1: {b}.5 (2.0)  time: 0.3  max mem: 1234"
        ),
        range(2),
        range(0, 400, 100),
    ),
    loss=(8, 0, 700, 3, 1.5),
    lr=(8, 0, 700, 0.1, 0.1),
    acc1=(8, 0, 700, 0.5, 300.5),
)
add(
    "PyTorch's MNIST example",
    nested(
        lambda e, b: f"Train Epoch: {e} [{b * 64}/60000 ({b * 64 * 100 // 60000}%)]\tLoss: {2.3 / e:.6f}",
        (1, 2, 3),
        range(0, 900, 100),
    )
    + "\nTest set: Average loss: 0.0285, Accuracy: 9900/10000 (99%)\n\n",
    Loss=(27, 0, 171200, 2.3, 0.766667),
    **{
        "test__Average loss": (1, 171200, 171200, 0.0285, 0.0285),
        "test__Accuracy": (1, 171200, 171200, 0.99, 0.99),
    },
)
add(
    "PyTorch's CIFAR tutorial",
    nested(lambda e, b: f"[{e}, {b:5d}] loss: {2.0 / e:.3f}", (1, 2), range(2000, 12001, 2000))
    + "Finished Training\n",
    loss=(12, 2000, 24000, 2, 1),
)
add(
    "PyTorch's word language model",
    nested(
        lambda e, b: (
            f"| epoch {e:3d} | {b:5d}/ 2983 batches | lr 20.00 | ms/batch 20.11 | loss {8 - e:5.2f} | ppl {np.exp(8 - e):8.2f}"
        ),
        (1, 2),
        range(200, 2983, 200),
    )
    + "-----------\n| end of epoch   2 | time: 66.1s | valid loss  5.50 | valid ppl   244.69\n------------\n",
    loss=(28, 200, 5783, 7, 6),
    ppl=(28, 200, 5783, 1096.63, 403.43),
    **{"valid loss": (1, 5783, 5783, 5.5, 5.5)},
)
add(
    "PyTorch Geometric's examples",
    lines(
        lambda i: f"Epoch: {i:03d}, Loss: {1 / i:.4f}, Train: 0.{30 + i}, Val: 0.{20 + i}, Test: 0.{10 + i}"
    ),
    Loss=(20, NAN, NAN, 1, 0.05),
    Val=(20, NAN, NAN, 0.21, 0.40),
)
add(
    "MMDetection 2",
    nested(
        lambda e, b: (
            f"2022-01-01 12:{e:02d}:{b // 50:02d},123 - mmdet - INFO - Epoch [{e}][{b}/7330]\tlr: 1.978e-03, eta: 1 day, 3:12:01, time: 0.512, memory: 3456, loss_rpn_cls: 0.5, loss: {1.7 / e:.4f}, acc: 92.1"
        ),
        (1, 2),
        range(50, 500, 50),
    ),
    loss=(18, 50, 7780, 1.7, 0.85),
    acc=(18, 50, 7780, 92.1, 92.1),
    lr=(18, 50, 7780, 1.978e-3, 1.978e-3),
)
add(
    "MMEngine",
    nested(
        lambda e, b: (
            f"03/21 12:{e:02d}:{b // 10:02d} - mmengine - INFO - Epoch(train)  [{e}][{b:3d}/100]  lr: 1.0e-03  eta: 0:12:34  time: 0.1  loss: {1 / e:.4f}"
        ),
        (1, 2, 4),
        range(10, 101, 10),
    )
    + "03/21 12:05:00 - mmengine - INFO - Epoch(val) [4][50/50]    accuracy/top1: 76.1000  data_time: 0.01  time: 0.1\n",
    loss=(30, 10, 400, 1, 0.25),
    val__accuracy__top1=(1, 400, 400, 76.1, 76.1),
)
add(
    "detectron2's stdout",
    lines(
        lambda i: (
            f"[11/21 03:34:{i:02d} d2.utils.events]:  eta: 0:05:11  iter: {i * 20 - 1}  total_loss: {2 / i:.4f}  loss_cls: 1.5  time: 0.12  lr: 1.6e-05  max_mem: 2345M"
        )
    ),
    total_loss=(20, 19, 399, 2, 0.1),
    lr=(20, 19, 399, 1.6e-5, 1.6e-5),
)
add(
    "Ultralytics",
    "".join(
        f"      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size\n"
        f"        {e}/10      2.1G      {1.2 / e:.3f}      2.345      1.456         12        640:  50%|█████     | 4/8 [00:01<00:01,  3.2it/s]\r"
        f"        {e}/10      2.1G      {1.0 / e:.3f}      2.345      1.456         12        640: 100%|██████████| 8/8 [00:02<00:00,  3.2it/s]\n"
        f"                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100%|██████████| 4/4 [00:01<00:00,  3.2it/s]\n"
        f"                   all        128        929      0.64      0.537      {0.06 * e:.3f}      0.446\n" for e in range(1, 11)
    ),
    box_loss=(20, 4, 80, 1.2, 0.1), mAP50=(10, 8, 80, 0.06, 0.6),
)  # fmt: skip
add(
    "fastai",
    "epoch     train_loss  valid_loss  accuracy  time    \n"
    + lines(
        lambda e: f"{e}         {1 / (e + 1):.6f}    {1.1 / (e + 1):.6f}    0.9{e}      00:12     ", range(5)
    ),
    train_loss=(5, NAN, NAN, 1, 0.2),
    valid_loss=(5, NAN, NAN, 1.1, 0.22),
    accuracy=(5, NAN, NAN, 0.9, 0.94),
)
add(
    "spaCy",
    "E    #       LOSS TOK2VEC  LOSS NER  ENTS_F  ENTS_P  ENTS_R  SCORE \n---  ------  ------------  --------  ------  ------  ------  ------\n"
    + lines(
        lambda i: (
            f"  {i // 4}     {i * 200}          {0.1 * i:.2f}     {100 / i:.2f}   {5 * i:.2f}    66.6   77.7    0.{i:02d}"
        )
    ),
    SCORE=(20, 200, 4000, 0.01, 0.2),
    **{"LOSS NER": (20, 200, 4000, 100, 5)},
)
add_named(
    "XGBoost",
    lines(lambda i: f"[{i}]\ttrain-rmse:{0.5 / i:.5f}\teval-rmse:{0.6 / i:.5f}"),
    {"train-rmse": (20, 1, 20, 0.5, 0.025), "eval-rmse": (20, 1, 20, 0.6, 0.03)},
)
add_named(
    "LightGBM",
    lines(lambda i: f"[{i}]\ttraining's l2: {0.5 / i:.5f}\tvalid_1's l2: {0.6 / i:.5f}"),
    {"training's l2": (20, 1, 20, 0.5, 0.025), "valid_1's l2": (20, 1, 20, 0.6, 0.03)},
)
add(
    "CatBoost",
    lines(
        lambda i: (
            f"{i}:\tlearn: {1 / i:.7f}\ttest: 0.69{i}\tbest: 0.69 ({i})\ttotal: {50 * i}ms\tremaining: 50s"
        )
    ),
    learn=(20, 1, 20, 1, 0.05),
    test=(20, 1, 20, 0.691, 0.6920),
)
add(
    "Keras 2 with bars",
    "".join(
        f"Epoch {e}/5\n" + "\r".join(f"{b:4d}/1875 [=====>........................] - ETA: 1:02 - loss: {2 / e:.4f} - accuracy: 0.11" for b in (1, 500, 1000))
        + f"\r1875/1875 [==============================] - 3s 2ms/step - loss: {1 / e:.4f} - accuracy: 0.91 - val_loss: {1.2 / e:.4f}\n" for e in range(1, 6)
    ),
    loss=(20, 1, 9375, 2, 0.2), val_loss=(5, 1875, 9375, 1.2, 0.24),
)  # fmt: skip
add(
    "Keras 3 with colours",
    "".join(
        f"Epoch {e}/5\n\x1b[1m 500/1875\x1b[0m \x1b[32m━━━\x1b[0m\x1b[37m━━━━━\x1b[0m \x1b[1m3s\x1b[0m 2ms/step - accuracy: 0.11 - loss: 2.0\r"
        f"\x1b[1m1875/1875\x1b[0m \x1b[32m━━━━━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m2s\x1b[0m 1ms/step - accuracy: 0.9 - loss: {1 / e:.4f} - val_loss: {1.1 / e:.4f}\n" for e in range(1, 6)
    ),
    loss=(10, 500, 9375, 2, 0.2), val_loss=(5, 1875, 9375, 1.1, 0.22),
)  # fmt: skip
add(
    "Keras before bars",
    lines(
        lambda e: (
            f"Epoch {e}/5\n - 5s - loss: {1 / e:.4f} - acc: 0.91 - val_loss: {1.2 / e:.4f} - val_acc: 0.90"
        ),
        range(1, 6),
    ),
    loss=(5, NAN, NAN, 1, 0.2),
    val_acc=(5, NAN, NAN, 0.9, 0.9),
)
add(
    "Lightning's bar",
    nested(
        lambda e, b: (
            f"\rEpoch {e}: {bar(b, 100)} [00:{b // 10:02d}<00:04, 15.2it/s, v_num=0, train_loss={1 / (e + 1):.3f}]"
        ),
        range(2),
        range(0, 101, 10),
    ).replace("]\n", "]")
    + "\n",
    train_loss=(22, 0, 200, 1, 0.5),
)
add(
    "torchtune",
    nested(
        lambda e, b: f"\r{e}|{b}|Loss: {2 / e:.6f}: {bar(b, 20)} [00:10<03:10,  2.0s/it]",
        (1, 2),
        range(1, 21),
    ),
    Loss=(40, 1, 40, 2, 1),
)
add(
    "diffusers and accelerate",
    lines(
        lambda i: (
            f"\rSteps: {bar(i * 100, 2000)} [00:{i:02d}<03:10, 10.0it/s, lr=1e-5, step_loss={0.5 / i:.4f}]"
        )
    ),
    step_loss=(20, 100, 2000, 0.5, 0.025),
    lr=(20, 100, 2000, 1e-5, 1e-5),
)
add(
    "PyTorch-GAN",
    nested(
        lambda e, b: f"[Epoch {e}/3] [Batch {b}/500] [D loss: {0.5 + b / 1000:.6f}] [G loss: {0.42 + e:.6f}]",
        range(3),
        range(0, 500, 100),
    ),
    **{"D loss": (15, 0, 1400, 0.5, 0.9), "G loss": (15, 0, 1400, 0.42, 2.42)},
)
add(
    "DCGAN",
    nested(
        lambda e, b: f"[{e}/5][{b}/1583]\tLoss_D: {2 / (e + 1):.4f}\tLoss_G: 4.4",
        range(2),
        range(0, 1583, 500),
    ),
    Loss_D=(8, 0, 3083, 2, 1),
    Loss_G=(8, 0, 3083, 4.4, 4.4),
)
add(
    "llm.c",
    lines(
        lambda i: (
            f"step {i:4d}/20 | loss {8 / i:.6f} (+nanz)| norm {3.2 / i:.4f} (+0.31z)| lr {1.5e-4:.2e} | 100.20 ms | 45.3% bf16 MFU | 12345 tok/s"
        )
    ),
    loss=(20, 1, 20, 8, 0.4),
    norm=(20, 1, 20, 3.2, 0.16),
)
add(
    "build-nanoGPT",
    lines(
        lambda i: (
            f"step {i:5d} | loss: {3 / i:.6f} | lr {1e-4:.4e} | norm: 0.3000 | dt: 312.1ms | tok/sec: 167890.12"
        )
    ),
    loss=(20, 1, 20, 3, 0.15),
    tok__sec=(20, 1, 20, 167890.12, 167890.12),
)
add(
    "fairseq, simple",
    lines(
        lambda i: (
            f"2020-05-01 12:00:{i:02d} | INFO | train_inner | epoch 001:    {i * 100} / 3000 loss={9 / i:.3f}, ppl=450.1, wps=12345, num_updates={i * 100}, lr=1e-05, gnorm=2.1, wall={i * 33}"
        )
    )
    + "2020-05-01 12:01:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 4.5 | ppl 22.6 | num_updates 2000\n",
    loss=(20, 100, 2000, 9, 0.45),
    val__loss=(1, 2000, 2000, 4.5, 4.5),
    gnorm=(20, 100, 2000, 2.1, 2.1),
)
add(
    "DeepSpeed",
    lines(
        lambda i: (
            f"[2023-08-01 12:00:{i:02d},123] [INFO] [logging.py:96:log_dist] [Rank 0] step={i * 10}, skipped=0, lr=[9.6e-06], mom=[(0.9, 0.999)]\nEpoch: 0, Step: {i * 10}, Loss: {2 / i:.4f}"
        )
    ),
    Loss=(20, 10, 200, 2, 0.1),
    lr=(20, 10, 200, 9.6e-6, 9.6e-6),
)
add(
    "Spinning Up",
    "".join(
        f"{'-' * 39}\n|             Epoch |{e:16d} |\n|       AverageEpRet |{e * 10.5:16.3g} |\n| TotalEnvInteracts |{e * 4000:16d} |\n|            LossPi |{-0.01 * e:16.3g} |\n{'-' * 39}\n"
        for e in range(11)
    ),
    AverageEpRet=(11, 0, 40000, 0, 105),
    LossPi=(11, 0, 40000, 0, -0.1),
)
add(
    "RSL-RL",
    lines(
        lambda i: (
            f"{'#' * 80}\n                      \x1b[1m Learning iteration {i}/1500 \x1b[0m                       \n\n                       Computation: 53000 steps/s (collection: 1.2s, learning 0.3s)\n"
            f"               Value function loss: {0.5 / i:.4f}\n                       Mean reward: {i * 1.5:.2f}\n                               ETA: 12.3s\n"
        )
    ),
    **{"Value function loss": (20, 1, 20, 0.5, 0.025), "Mean reward": (20, 1, 20, 1.5, 30)},
)
add(
    "MLX",
    lines(
        lambda i: (
            f"Iter {i * 10}: Train loss {2 / i:.3f}, Learning Rate 1.000e-05, It/sec 0.512, Tokens/sec 123.4, Trained Tokens {i * 1000}, Peak mem 12.3 GB"
            + (f"\nIter {i * 10}: Val loss {2 / i:.3f}, Val took 12.3s" if i % 5 == 0 else "")
        )
    ),
    **{"Train loss": (20, 10, 200, 2, 0.1), "Val loss": (4, 50, 200, 0.4, 0.1)},
)
add(
    "ESPnet",
    lines(
        lambda i: (
            f"[host] 2022-03-01 10:{i:02d}:00,000 (trainer:732) INFO: 1epoch:train:{i * 50 - 49}-{i * 50}batch: iter_time=1.2e-04, loss_ctc={100 / i:.3f}, acc=0.3, loss={90 / i:.3f}, optim0_lr0=1.0e-05"
        )
    ),
    loss=(20, 50, 1000, 90, 4.5),
    acc=(20, 50, 1000, 0.3, 0.3),
)
add(
    "OpenNMT",
    lines(
        lambda i: (
            f"[2023-01-01 10:00:{i:02d},000 INFO] Step {i * 50}/100000; acc:  {i * 1.5:.1f}; ppl: {1000 / i:.2f}; xent: {6 / i:.2f}; lr: 0.00002; sents:   3000; bsz: 2000/2500/10; 12000/13000 tok/s;     {i * 12} sec;"
        )
    ),
    xent=(20, 50, 1000, 6, 0.3),
    acc=(20, 50, 1000, 1.5, 30),
    ppl=(20, 50, 1000, 1000, 50),
)
add(
    "Flair",
    lines(
        lambda i: (
            f"2023-01-01 10:00:{i:02d},000 epoch 1 - iter {i * 10}/200 - loss {2 / i:.8f} - time (sec): {i * 1.2:.2f} - samples/sec: 123.4 - lr: 0.100000"
        )
    ),
    loss=(20, 10, 200, 2, 0.1),
    lr=(20, 10, 200, 0.1, 0.1),
)
add(
    "TensorFlow 1's estimators",
    lines(
        lambda i: (
            f"INFO:tensorflow:loss = {1 / i:.5f}, step = {i * 100} (12.345 sec)\nINFO:tensorflow:global_step/sec: 8.1"
        )
    ),
    loss=(20, 100, 2000, 1, 0.05),
)
add(
    "Caffe",
    lines(
        lambda i: (
            f"I0412 13:28:{i:02d}.548892  2020 solver.cpp:218] Iteration {i * 100} (24.1 iter/s, 4.1s/100 iters), loss = {1 / i:.5f}\nI0412 13:28:{i:02d}.548892  2020 sgd_solver.cpp:105] Iteration {i * 100}, lr = 0.01"
        )
    ),
    loss=(20, 100, 2000, 1, 0.05),
    lr=(20, 100, 2000, 0.01, 0.01),
)
add(
    "Darknet",
    lines(
        lambda i: (
            f" {i}: {100 / i:.6f}, {100 / i:.6f} avg loss, 0.001000 rate, 1.234567 seconds, {i * 64} images, 12.3 hours left"
        )
    ),
    **{"avg loss": (20, 1, 20, 100, 5)},
)
add(
    "CleanRL",
    lines(lambda i: f"global_step={i * 128}, episodic_return={i * 1.5}\nSPS: {1000 + i}"),
    episodic_return=(20, 128, 2560, 1.5, 30),
    SPS=(20, 128, 2560, 1001, 1020),
)
add(
    "loguru",
    lines(
        lambda i: (
            f"2024-01-01 00:00:{i:02d}.123 | INFO     | __main__:train:42 - step {i * 100} | train/loss {1 / i:.3f} | train/lr 1.0e-04"
        )
    ),
    train__loss=(20, 100, 2000, 1, 0.05),
    train__lr=(20, 100, 2000, 1e-4, 1e-4),
)
add(
    "tensors printed as they are",
    lines(lambda i: f"epoch {i} loss tensor({1 / i:.4f}, device='cuda:0', grad_fn=<NllLossBackward>)"),
    loss=(20, NAN, NAN, 1, 0.05),
)
add(
    "ranks before the line",
    lines(lambda i: f"[rank0]: step {i} | loss: {1 / i:.4f}"),
    loss=(20, 1, 20, 1, 0.05),
)
add(
    "a container's log",
    lines(lambda i: f"2024-05-01T10:00:{i:02d}.123456789Z stdout F step={i} loss={1 / i:.4f}"),
    loss=(20, 1, 20, 1, 0.05),
)
add(
    "names in another script", lines(lambda i: f"步数: step {i} 损失: {1 / i:.4f}"), 损失=(20, 1, 20, 1, 0.05)
)

add(
    "Swin Transformer",
    nested(lambda e, b: f"[2022-01-01 10:{e:02d}:{b // 50:02d} swin_tiny] (main.py 223): INFO Train: [{e}/300][{b}/1251]\teta 1:02:03 lr 0.000001\t time 1.2345 (1.2345)\tloss {6.9 - e:.4f} (6.9123)\tgrad_norm 1.2345 (1.2345)\tmem 12345MB", range(2), range(0, 1251, 250))
    + "[2022-01-01 10:09:00 swin_tiny] (main.py 280): INFO  * Acc@1 12.345 Acc@5 23.456\n",
    loss=(12, 0, 2501, 6.9, 5.9), lr=(12, 0, 2501, 1e-6, 1e-6), Acc_at_1=(1, 2501, 2501, 12.345, 12.345),
)  # fmt: skip
add(
    "nnU-Net 2",
    lines(lambda i: f"2023-01-01 12:{i:02d}:00.123456: Epoch {i} \n2023-01-01 12:{i:02d}:00.133456: Current learning rate: 0.0{i} \n2023-01-01 12:{i:02d}:30.123456: train_loss -0.{i}5 \n2023-01-01 12:{i:02d}:30.223456: val_loss -0.{i}7 \n2023-01-01 12:{i:02d}:30.323456: Pseudo dice [0.8, 0.5] \n", range(1, 9)),
    train_loss=(8, NAN, NAN, -0.15, -0.85), val_loss=(8, NAN, NAN, -0.17, -0.87),
)  # fmt: skip
add("GPT-NeoX", lines(lambda i: f"  samples/sec: 12.345 | iteration {i * 10:8d}/  320000 | elapsed time per iteration (ms): 1234.5 | learning rate: 1.2E-06 | approx flops per GPU: 50.2TFLOPS | lm_loss: {1.0 / i:.6E} | loss scale: 65536.0 | number of nan iterations:   0 |"), lm_loss=(20, 10, 200, 1, 0.05), **{"loss scale": (20, 10, 200, 65536, 65536)})  # fmt: skip
add(
    "MaxText",
    lines(
        lambda i: (
            f"completed step: {i}, seconds: 1.234, TFLOP/s/device: 50.1, Tokens/s/device: 1234.5, total_weights: 65536, loss: {10 / i:.3f}"
        )
    ),
    loss=(20, 1, 20, 10, 0.5),
)
add(
    "OLMo",
    lines(lambda i: f"[2024-01-01 10:00:{i:02d}] INFO     [olmo.train:816, rank=0] [step={i * 10}/739328,epoch=0]\n    optim/total_grad_norm=0.1234\n    train/CrossEntropyLoss={10 / i:.4f}\n    throughput/total_tokens={i * 41943040:,}"),
    train__CrossEntropyLoss=(20, 10, 200, 10, 0.5), optim__total_grad_norm=(20, 10, 200, 0.1234, 0.1234), throughput__total_tokens=(20, 10, 200, 41943040, 838860800),
)  # fmt: skip
add(
    "Composer",
    lines(
        lambda i: (
            f"[batch={i * 10}/1000]:\n\t Train time/batch: {i * 10 - 1}\n\t Train loss/train/total: {2 / i:.4f}"
        )
    ),
    **{"Train loss__train__total": (20, 10, 200, 2, 0.1)},
)
add(
    "torchtitan",
    lines(
        lambda i: (
            f"[rank0]:2024-08-01 10:00:{i:02d},123 - root - INFO - step: {i:2d}  loss:  {8 / i:.4f}  memory: 12.34GiB(13.05%)  tps: {1000 + i:,}  mfu: 45.67%"
        )
    ),
    loss=(20, 1, 20, 8, 0.4),
    tps=(20, 1, 20, 1001, 1020),
)
add(
    "Tacotron 2",
    lines(lambda i: f"Train loss {i} {12 / i:.6f} Grad Norm 3.212345 1.23s/it")
    + "Validation loss 20:  1.512345  \n",
    **{
        "Train loss": (20, 1, 20, 12, 0.6),
        "Grad Norm": (20, 1, 20, 3.212345, 3.212345),
        "Validation loss": (1, 20, 20, 1.512345, 1.512345),
    },
)
add(
    "SpeechBrain",
    lines(
        lambda i: (
            f"epoch: {i}, lr: 1.00e+00 - train loss: {2 / i:.2f} - valid loss: {3 / i:.2f}, valid WER: 12.3"
        )
    ),
    **{"train loss": (20, NAN, NAN, 2, 0.1), "valid loss": (20, NAN, NAN, 3, 0.15)},
)
add("scikit-learn", lines(lambda i: f"Iteration {i}, loss = {2 / i:.8f}"), loss=(20, 1, 20, 2, 0.1))
add(
    "Coqui",
    lines(
        lambda i: (
            f"\x1b[1m   --> TIME: 2021-05-01 10:00:{i:02d} -- STEP: {i * 10}/1000 -- GLOBAL_STEP: {1000 + i * 10}\x1b[0m\n     | > loss: {0.5 / i:.5f}  (0.60000)\n     | > current_lr: 0.00010 \n"
        )
    ),
    loss=(20, 1010, 1200, 0.5, 0.025),
    current_lr=(20, 1010, 1200, 1e-4, 1e-4),
)
add(
    "icefall",
    lines(
        lambda i: (
            f"2022-05-01 10:00:{i:02d},123 INFO [train.py:901] (0/4) Epoch 1, batch {i * 50}, loss[loss={6 / i:.4g}, simple_loss=1.3, over 7000.00 frames. ], batch size: 20, lr: 3.00e-03, grad_scale: 1.0"
        )
    ),
    loss=(20, 50, 1000, 6, 0.3),
    lr=(20, 50, 1000, 3e-3, 3e-3),
)
add(
    "StyleGAN",
    lines(
        lambda i: (
            f"tick {i:<5d} kimg {i * 4.0:<8.1f} time {i}m 02s       sec/tick {60 + i}.3   sec/kimg 15.1    maintenance 0.1    gpumem 10.1   augment 0.0{i:02d}"
        )
    ),
    kimg=(20, 1, 20, 4, 80),
    augment=(20, 1, 20, 0.001, 0.020),
)
add(
    "pictures before the names",
    lines(lambda i: f"🔥 Epoch {i}/20 | 📉 train_loss: {1 / i:.4f} | ✅ val_acc: {90 + i / 10:.2f}%"),
    train_loss=(20, NAN, NAN, 1, 0.05),
    val_acc=(20, NAN, NAN, 90.1, 92),
)
add(
    "logfmt",
    lines(
        lambda i: (
            f'ts=2024-01-01T00:00:{i:02d}Z level=info msg="train" step={i * 10} loss={1 / i:.4f} lr=0.0001'
        )
    ),
    loss=(20, 10, 200, 1, 0.05),
)
add(
    "JSON at the end of a line",
    lines(
        lambda i: (
            f'INFO 2024-01-01T00:00:{i:02d}Z metrics {{"step": {i * 10}, "loss": {1 / i:.4f}, "lr": "1e-4"}}'
        )
    ),
    loss=(20, 10, 200, 1, 0.05),
    lr=(20, 10, 200, 1e-4, 1e-4),
)
add(
    "names and numbers alone",
    lines(
        lambda i: (
            f"step {i * 1000}/52000 ({i}%) | total {300 / i:.1f} lm 0.0000 kd {35 / i:.2f} feat 170.3 | cw 0.0{i:02d} | ppl 485165195.4"
        )
    ),
    total=(20, 1000, 20000, 300, 15),
    kd=(20, 1000, 20000, 35, 1.75),
    feat=(20, 1000, 20000, 170.3, 170.3),
    cw=(20, 1000, 20000, 0.001, 0.02),
)
add(
    "Stable Baselines 3",
    "".join(f"| rollout/           |          |\n|    ep_len_mean     | {i}.5e+02 |\n| time/              |          |\n|    fps             | {900 + i}      |\n|    total_timesteps | {i * 2048}     |\n| train/             |          |\n|    loss            | {10 / i:.3g}     |\n----------------------------------\n" for i in range(1, 9)),
    rollout__ep_len_mean=(8, 2048, 16384, 150, 850), train__loss=(8, 2048, 16384, 10, 1.25), time__fps=(8, 2048, 16384, 901, 908),
)  # fmt: skip
