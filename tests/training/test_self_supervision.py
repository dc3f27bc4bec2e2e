"""Objectives, masks and schedules of self-supervised learning: what the golden cases do not show."""

import math
import random

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from hf_vits.objectives import (
    AbsoluteReconstruction,
    DINOLoss,
    EsViTLoss,
    IBOTLoss,
    MaskedPatchRegression,
    MomentumContrastLoss,
    MomentumSiTLoss,
    NTXentLoss,
    SiTLoss,
    UncertaintyWeighting,
)
from hf_vits.objectives import corruptions as paint
from hf_vits.objectives.masks import AttentionMask, MaskRatio, block_mask, random_mask
from hf_vits.optim.schedules import cosine, teacher_temperature
from hf_vits.pretraining.heads import TokenBatchNorm
from hf_vits.training.loop.batch_statistics import GlobalBatchStatistics

VIEWS, CROPS, BATCH, SIZE = 2, 4, 3, 7


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# DINO


def test_dino_is_the_mean_over_pairs_of_different_views():
    student, teacher, center = drawn(CROPS, BATCH, SIZE), drawn(VIEWS, BATCH, SIZE, seed=1), drawn(SIZE, seed=2)
    objective = DINOLoss(SIZE, student_temperature=0.5, teacher_temperature=0.3)
    objective.center.value.copy_(center)
    targets = ((teacher - objective.center.value) / 0.3).softmax(dim=-1)
    logs = (student / 0.5).log_softmax(dim=-1)
    pairs = [-(targets[q] * logs[v]).sum(dim=-1).mean() for q in range(VIEWS) for v in range(CROPS) if q != v]
    loss, _ = objective(student, teacher)
    assert loss.item() == pytest.approx(sum(pairs).item() / len(pairs), abs=1e-5)
    moved = 0.9 * center.float() + 0.1 * teacher.mean(dim=(0, 1)).float()
    torch.testing.assert_close(objective.center.value, moved)


def test_evaluation_leaves_the_center_alone():
    objective = DINOLoss(SIZE).eval()
    objective(drawn(CROPS, BATCH, SIZE), drawn(VIEWS, BATCH, SIZE))
    assert not objective.center.value.any()


def test_mixed_images_have_mixed_targets():
    """As the original writes it: similarities of all targets and outputs, weighted."""
    student, teacher = drawn(CROPS, BATCH, SIZE), drawn(VIEWS, BATCH, SIZE, seed=1)
    mixing = drawn(CROPS, BATCH, BATCH, seed=2).softmax(dim=2)
    objective = DINOLoss(SIZE).eval()
    loss, _ = objective(student, teacher, mixing)
    targets = (teacher / 0.04).softmax(dim=-1)
    logs = (student / 0.1).log_softmax(dim=-1)
    pairs = [
        -(mixing[v] * (targets[q] @ logs[v].T)).sum(dim=-1).mean()
        for q in range(VIEWS)
        for v in range(CROPS)
        if q != v
    ]
    assert loss.item() == pytest.approx(sum(pairs).item() / len(pairs), rel=1e-5)


def center_of_part(rank: int, outputs: torch.Tensor, port: int, results) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    objective = DINOLoss(outputs.shape[-1])
    part = outputs.chunk(2, dim=1)[rank]
    objective(part, part)
    teacher = MomentumContrastLoss()(part.clone().requires_grad_(), part)[0]
    results.put((rank, objective.center.value.tolist(), teacher.item()))
    torch.distributed.destroy_process_group()


def test_two_processes_share_center_and_candidates():
    outputs = drawn(2, 4, SIZE)
    queue = mp.get_context("fork").SimpleQueue()
    mp.start_processes(center_of_part, args=(outputs, free_port(), queue), nprocs=2, start_method="fork")
    (_, first, loss_a), (_, second, loss_b) = sorted(queue.get() for _ in range(2))
    objective = DINOLoss(SIZE)
    objective(outputs, outputs)
    assert first == second == pytest.approx(objective.center.value.tolist(), abs=1e-7)
    assert (loss_a + loss_b) / 2 == pytest.approx(MomentumContrastLoss()(outputs, outputs)[0].item(), abs=1e-6)


def norms_of_part(rank, batches, port, results):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    norms, batches = make_norms(), [batch.tensor_split([3])[rank] for batch in batches]
    with GlobalBatchStatistics():
        results.put((rank, [norm_once(norm, batch) for norm, batch in zip(norms, batches, strict=True)]))
    torch.distributed.destroy_process_group()


def make_norms():
    torch.manual_seed(0)
    norms = [nn.BatchNorm1d(5), nn.BatchNorm2d(4, momentum=0.3), TokenBatchNorm(6, affine=False)]
    for parameter in nn.ModuleList(norms).parameters():
        nn.init.uniform_(parameter)
    return norms


def norm_once(norm, batch):
    """Output, gradients of what went in and of the parameters, and running statistics, as lists."""
    batch = batch.clone().requires_grad_()
    output = norm(batch)
    output.sin().sum().backward()
    gradients = [parameter.grad.tolist() for parameter in norm.parameters()]
    return output.tolist(), batch.grad.tolist(), gradients, norm.running_mean.tolist(), norm.running_var.tolist()


def test_batch_norms_over_two_processes_are_those_over_the_whole_batch():
    """Of parts of three and of five; not forked, as autograd's threads may run here already."""
    torch.manual_seed(1)
    batches = [3 + 2 * torch.randn(size) for size in ([8, 5], [8, 4, 3, 2], [8, 7, 6])]
    queue = mp.get_context("spawn").SimpleQueue()
    mp.start_processes(norms_of_part, args=(batches, free_port(), queue), nprocs=2, start_method="spawn")
    parts = zip(*(found for _, found in sorted(queue.get() for _ in range(2))), strict=True)
    for norm, batch, (first, second) in zip(make_norms(), batches, parts, strict=True):
        output, gradient, gradients, *running = norm_once(norm, batch)
        for whole, *both in ((output, first[0], second[0]), (gradient, first[1], second[1])):
            torch.testing.assert_close(torch.tensor(both[0] + both[1]), torch.tensor(whole), rtol=1e-5, atol=2e-6)
        for whole, *both in zip(gradients, first[2], second[2], strict=True):
            torch.testing.assert_close(torch.tensor(both).sum(dim=0), torch.tensor(whole), rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(torch.tensor(first[3:]), torch.tensor(running), rtol=1e-5, atol=1e-6)
        assert first[3:] == second[3:]


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# Masks


@pytest.mark.parametrize(("num_patches", "ratio", "kept"), [(196, 0.75, 49), (100, 0.8, 19), (16, 0.0, 16)])
def test_random_masks_keep_the_patches_of_least_noise(num_patches, ratio, kept):
    noise = torch.rand(3, num_patches, generator=torch.Generator().manual_seed(0))
    masking = random_mask(noise, ratio)
    assert masking.kept.shape == (3, kept)
    assert (~masking.mask).sum(dim=1).tolist() == [kept] * 3
    for image in range(3):
        assert masking.mask[image, masking.kept[image]].sum() == 0
        if kept < num_patches:
            assert noise[image][masking.mask[image]].min() > noise[image][~masking.mask[image]].max()
    shuffled = torch.cat([masking.kept, torch.full((3, num_patches - kept), -1)], dim=1)
    restored = shuffled.gather(1, masking.restore)
    everywhere = torch.arange(num_patches).expand(3, -1)
    assert torch.equal(restored, everywhere.masked_fill(masking.mask, -1))


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (6, 10), (3, 3)])
def test_blocks_never_mask_more_than_asked(grid):
    generator = random.Random(0)
    for ratio in np.linspace(0, 0.9, 10):
        mask = block_mask(grid, ratio, generator)
        assert mask.shape == grid
        assert mask.sum() <= ratio * mask.size


def test_ratios_of_zero_and_more_mask_half_of_the_views():
    ratio, generator = MaskRatio((0, 0.3), (0, 0.2)), random.Random(0)
    drawn = [ratio.draw(generator) for _ in range(400)]
    assert 0.4 < np.mean([r == 0 for r in drawn]) < 0.6
    assert all(r == 0 or 0.1 <= r <= 0.5 for r in drawn)
    assert MaskRatio(0.3, first_epoch=5).draw(generator, epoch=4) == 0
    assert MaskRatio(0.3, first_epoch=5).draw(generator, epoch=5) == 0.3


def test_hints_reveal_some_of_the_most_attended():
    attention = torch.rand(64, 100, generator=torch.Generator().manual_seed(0))
    high = AttentionMask("high", probability=1)(attention, 0.4)
    hint = AttentionMask("hint", probability=1, hint_fraction=0.2)(attention, 0.4)
    low = AttentionMask("low", probability=1)(attention, 0.4)
    assert high.sum(dim=1).tolist() == low.sum(dim=1).tolist() == [40] * 64
    assert not (high & low).any()
    revealed = high & ~hint
    assert revealed.sum(dim=1).tolist() == [8] * 64
    assert (revealed & AttentionMask("high", probability=1)(attention, 0.2)).sum() == revealed.sum()
    gated = AttentionMask("high", probability=0.5)(attention, 0.4).any(dim=1)
    assert 16 < gated.sum() < 48


# SiT


def test_a_block_too_narrow_for_the_kernel_is_blurred_all_the_same():
    generator = np.random.RandomState(0)
    for _ in range(200):
        image = torch.rand(1, 28, 28, dtype=torch.float64)
        before = image.clone()
        paint.blur_block(image, generator)
        assert image.isfinite().all()
        assert image.min() >= before.min() - 1e-9


def test_blocks_of_the_image_itself_come_from_the_image():
    image = torch.arange(48 * 48, dtype=torch.float32).view(1, 48, 48)
    before = image.clone()
    mask = paint.drop_blocks(image, np.random.RandomState(0), kinds=["shuffle"], align=4)
    assert mask.float().mean() >= 0.5
    assert torch.isin(image, before).all()
    assert torch.equal(image[:, ~mask], before[:, ~mask])


def test_uncertainty_learns_a_smaller_weight_for_a_larger_loss():
    weighting = UncertaintyWeighting({"easy": 1.0, "hard": 1.0})
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        weighting({"easy": torch.tensor(0.1), "hard": torch.tensor(4.0)})[0].backward()
        optimizer.step()
    # exp(-w) loss + w / 2 is least where exp(w) is twice the loss.
    assert weighting.weights["hard"].item() == pytest.approx(math.log(8), abs=0.01)
    assert weighting.weights["easy"].item() == pytest.approx(math.log(0.2), abs=0.01)


def test_reconstruction_of_corrupted_pixels_alone():
    painted, clean = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    corrupted = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    corrupted[0, :, :2] = True
    loss, _ = AbsoluteReconstruction(corrupted_only=True)(painted, clean, corrupted)
    assert loss.item() == pytest.approx((painted - clean)[0, :, :2].abs().mean().item())


def test_a_perfect_student_has_less_loss():
    """Both views of an image alike, the images apart: contrast is as low as it gets."""
    embeddings = torch.eye(4, dtype=torch.float64)
    others = embeddings.roll(1, 0)
    assert NTXentLoss()(embeddings, embeddings)[0] < NTXentLoss()(embeddings, others)[0]
    alike, apart = (torch.stack([embeddings, second]) for second in (embeddings, others))
    assert MomentumContrastLoss()(alike, alike)[0] < MomentumContrastLoss()(alike, apart)[0]
    images = drawn(8, 3, 4, 4)
    corrupted = torch.ones(8, 1, 4, 4, dtype=torch.bool)
    loss, logged = MomentumSiTLoss(reconstruction_weight=5.0)(alike, alike, images + 1, images, corrupted)
    assert loss.item() == pytest.approx(logged["contrastive_loss"].item() + 5)


# Schedules


def test_schedules_keep_their_ends():
    momentum = cosine(0.996, 1.0, 100)
    assert momentum(0) == 0.996
    assert momentum(99) < 1 == momentum(100)
    rate = cosine(1.0, 0.0, 100, warmup_steps=10)
    assert [rate(0), rate(9), rate(10)] == [0.0, 1.0, 1.0]
    temperature = teacher_temperature(0.04, 0.07, 30, first_epoch=5)
    assert [temperature(epoch) for epoch in (0, 5, 34, 35, 300)] == pytest.approx([0.04, 0.04, 0.07, 0.07, 0.07])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DINOLoss(4, teacher_temperature=0), "teacher_temperature must be positive, got 0"),
        (lambda: DINOLoss(4)(torch.zeros(4, 2, 3), torch.zeros(2, 2, 4)), r"got \(4, 2, 3\) and \(2, 2, 4\)"),
        (lambda: DINOLoss(4)(torch.zeros(1, 2, 4), torch.zeros(2, 2, 4)), "at least two crops.* got 1"),
        (
            lambda: IBOTLoss(4, 4)(*[torch.zeros(2, 3, 4)] * 2, *[torch.zeros(1, 4)] * 2, torch.zeros(6, 9), None),
            r"mask must be \(views, batch, patches\)",
        ),
        (
            lambda: MaskedPatchRegression()(torch.zeros(2, 9, 4), torch.zeros(2, 9, 5), torch.zeros(2, 9)),
            r"got \(2, 9, 4\), \(2, 9, 5\) and \(2, 9\)",
        ),
        (lambda: random_mask(torch.zeros(2, 4), 0.9), "0.9 leaves none of 4 patches visible"),
        (lambda: MaskRatio(0.1, 0.2), r"must stay in \[0, 1\], got 0.1 \+- 0.2"),
        (lambda: AttentionMask("middle"), "'high', 'hint' or 'low', got 'middle'"),
        (lambda: UncertaintyWeighting({"a": 1.0})({"b": torch.zeros(())}), "losses of a expected, got b"),
        (lambda: SiTLoss("logarithmic"), "got 'logarithmic'"),
        (lambda: cosine(1, 0, 10, warmup_steps=11), "a warm-up of 11 steps does not fit into a run of 10"),
        (
            lambda: paint.drop_blocks(torch.zeros(3, 28, 28), np.random.RandomState(0), align=16),
            "choose a smaller `align`",
        ),
        (
            lambda: AbsoluteReconstruction(corrupted_only=True)(
                torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), None
            ),
            "needs the mask of corrupted pixels",
        ),
    ],
)
def test_wrong_settings_say_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_regions_follow_their_best_match():
    """Where the teacher's regions are the student's in another order, each finds itself."""
    features = drawn(2, 5, 6)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    logits = drawn(2, 5, SIZE, seed=3)
    objective = EsViTLoss(SIZE).eval()
    views = drawn(2, 2, SIZE, seed=4)
    teacher_regions, teacher_features = (torch.stack([t, t])[:, :, order] for t in (logits, features))
    _, logged = objective(views, views, [logits, logits], teacher_regions, [features] * 2, teacher_features)
    targets = (logits / 0.04).softmax(dim=-1)
    expected = -(targets * (logits / 0.1).log_softmax(dim=-1)).sum(dim=-1).mean()
    assert logged["region_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
