"""Each part of DDDefense on its own and all together, against plain re-statements of the step."""

import copy

import pytest
import torch
import torch.nn.functional as F
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.attacks.guides import Guides
from plugins.compat import protect_input
from plugins.defense.adversarial_step import AdversarialStep
from plugins.defense.centroids import CentroidBank
from plugins.defense.dddefense_step import HALVES, DDDefenseStep, rows_of
from plugins.defense.self_meta import split_identities
from plugins.errors import InputError
from tests.helpers.attack_models import batch_for, built
from tests.helpers.defense_toys import (
    GAME,
    META,
    PEOPLE,
    dd_step,
    pair_of,
    run,
    slow_image,
    slow_label,
    step_of,
    tiny,
    tiny_batch,
)
from tests.helpers.small_models import copied, differing, state

FNES = ("DEFENSE.FNES.ENABLED", True)
BANK = ("DEFENSE.CENTROIDS.SOURCE", "bank")
ALL = (*FNES, *GAME, *META)


def halved(batch):
    """Images of half the size, for the time that a network takes."""
    return {**batch, "images": batch["images"][..., ::2, ::2]}


def attacks_of(step, batch):
    """What the step crafts, without FNES."""
    return AdversarialStep.craft(step, batch)


def test_with_every_part_off_it_is_adversarial_training_to_the_bit():
    ours, plain = dd_step(), step_of()
    logs = run(ours, 2), run(plain, 2)
    assert [{**log, "data_time": 0} for log in logs] == [{**logs[0], "data_time": 0}] * 2
    assert differing(state(plain.model), state(ours.model)) == []
    assert ours.checkpointables() == {}


@pytest.mark.slow
def test_degenerate_softening_is_metric_adversarial_training_with_smoothed_labels_to_the_bit():
    attacked_alone = ("DEFENSE.STEPS", 1, "DEFENSE.CLEAN_WEIGHT", 0.0)
    batch, models = halved(batch_for("Baseline")), []
    for kind, opts in (
        (AdversarialStep, ("MODEL.LOSSES.CE.EPSILON", 1 - 0.7)),
        (DDDefenseStep, (*FNES, "DEFENSE.FNES.GAMMA", 1.0, "DEFENSE.FNES.MIX", "[0.0,0.0]",
                         "DEFENSE.FNES.MOVED_MASS", 0.0, "MODEL.LOSSES.CE.EPSILON", 0.0)),
    ):  # fmt: skip
        model, cfg = built("Baseline", *attacked_alone, *opts)
        nn.init.normal_(model.heads.weight)
        run(step_of(kind=kind, model=protect_input(model), cfg=cfg, batches=[batch]))
        models.append(model)
    assert differing(*map(state, models)) == []


@pytest.mark.parametrize(
    ("opts", "logged"),
    [
        (FNES, ()),
        (GAME, ("loss_encoder", "discriminator/loss")),
        (META, ("loss_triplet_attacked_meta_test", "meta/moved")),
        (ALL, ("loss_encoder_meta_test", "discriminator/loss", "meta/moved")),
    ],
)
def test_each_part_changes_training_and_says_so_in_the_log(opts, logged):
    ours, plain = dd_step(*opts), step_of()
    found = run(ours)
    assert set(logged) <= found.keys() - run(plain).keys()
    assert differing(state(plain.model), state(ours.model))
    total = sum(value for name, value in found.items() if name.startswith("loss_"))
    assert found["total_loss"] == pytest.approx(total)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Baseline", "VVIBaseline", "SADSTRM"])
def test_everything_but_an_adversary_moves_on_every_meta_architecture(name):
    model, cfg = built(name, "DEFENSE.STEPS", 1, "MODEL.TEMPORAL.STIG.STRIPES", 2, *ALL, *BANK)
    nn.init.normal_(model.heads.weight)
    batch = halved(batch_for(name))
    # Twice: STIG's gate starts at the identity, and what is in front of it moves with the second.
    step = step_of(kind=DDDefenseStep, model=protect_input(model), cfg=cfg, batches=2 * [batch])
    before = state(model)
    logged = run(step)
    run(step)
    moved = set(differing(before, state(model)))
    still = {n for n, p in model.named_parameters() if p.requires_grad and n not in moved}
    assert still == {n for n in still if n.startswith("attack.")}
    assert {"loss_cls", "loss_cls_attacked_meta_test", "loss_encoder"} <= logged.keys()
    assert step.bank.seen.tolist() == [True, True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_passes_for_the_discriminator_and_at_theta_temp_log_nothing(weight):
    opts = ("DEFENSE.STEPS", 1, "DEFENSE.CLEAN_WEIGHT", weight)
    batch = halved(batch_for("Baseline"))
    for parts in (GAME, META, ALL):
        model, cfg = built("Baseline", *opts, *parts)
        step = step_of(kind=DDDefenseStep, model=protect_input(model), cfg=cfg, batches=[batch])
        with EventStorage() as storage:
            step.run_step()
        assert len(storage.history("cls_accuracy").values()) == 1


def test_frozen_layers_stay_in_the_inner_step_too():
    gradients = []
    for frozen, fixed in ((True, False), (False, True), (False, False)):
        step = dd_step(*META, "DEFENSE.META.ALPHA", 0.1, "SOLVER.FREEZE_ITERS", int(frozen))
        pair = pair_of(tiny_batch(), step.craft(tiny_batch()))
        stem, *others = step.model.parameters()
        groups = (("freeze", [stem]), ("normal", others))
        step.optimizer = torch.optim.SGD(
            [{"params": params, "freeze_status": status} for status, params in groups], lr=0.1
        )
        stem.requires_grad_(not fixed)
        step.backward([pair], step.optimizer)
        assert stem.requires_grad != fixed
        gradients.append([p.grad for p in others])
    for kept, fixed in zip(gradients[0], gradients[1], strict=True):
        assert torch.equal(kept, fixed)
    assert not torch.equal(gradients[0][-1], gradients[2][-1])


def test_who_moves_when():
    step, calls = dd_step(*ALL), []

    def noted(owner, name, note=None):
        found = getattr(owner, name)
        setattr(owner, name, lambda *a: calls.append(note(*a) if note else name) or found(*a))

    noted(step, "craft")
    noted(step, "farthest")
    noted(step.discriminator, "step", lambda *features: "discriminator")
    noted(step, "losses", lambda clean, _: set(clean["targets"].tolist()))
    noted(step, "update")
    run(step)
    assert calls[:3] == ["craft", "farthest", "discriminator"] and calls[5:] == ["update"]
    train, test = calls[3:5]
    assert len(train) == len(test) == 2 and train | test == set(range(PEOPLE))


def test_softening_leaves_the_budget_and_its_draws_follow_from_seed_rank_iteration_and_place():
    batch, step = tiny_batch(), dd_step(*FNES)
    before = copied(batch)
    found, attacked = step.craft(batch), attacks_of(step, batch)
    assert all(torch.equal(before[key], batch[key]) for key in ("images", "targets"))
    for row, w in enumerate(found["clean_shares"].tolist()):
        sides = (each["images"][row].flatten().tolist() for each in (batch, attacked))
        slow = [slow_image(x, twin, w, 2.0) for x, twin in zip(*sides, strict=True)]
        torch.testing.assert_close(found["images"][row].flatten(), torch.tensor(slow))
    assert (found["images"] - batch["images"]).abs().max() > 8
    step.iter, torch_state = 1, torch.get_rng_state()
    shares = [step.craft(batch, place)["clean_shares"] for place in (0, 1)]
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert len({tuple(s.tolist()) for s in (found["clean_shares"], *shares)}) == 3
    resumed = dd_step(*FNES)
    resumed.iter = 1
    assert torch.equal(resumed.craft(batch, 1)["clean_shares"], shares[1])


def test_in_the_warm_up_labels_are_as_much_nearer_to_clean_ones_as_images_are():
    batch = tiny_batch()
    plain = dd_step(*FNES).craft(batch)["clean_shares"]
    step = dd_step(*FNES, "DEFENSE.WARMUP_EPOCHS", 4)
    for epoch, expected in ((0, torch.ones(8)), (1, 1 - (1 - plain) / 4)):
        step.epoch = epoch
        torch.testing.assert_close(step.craft(batch)["clean_shares"], expected)
    step.epoch = 4
    assert torch.equal(step.craft(batch)["clean_shares"], plain)
    assert torch.equal(step.craft(batch)["images"], dd_step(*FNES).craft(batch)["images"])


def test_mass_goes_to_whom_the_attack_approaches_or_to_the_farthest_of_the_bank():
    batch, step = tiny_batch(), dd_step(*FNES, *BANK)
    adapter, targets = step.crafter.adapter, batch["targets"]
    with torch.no_grad():
        features = F.normalize(adapter({"images": batch["images"]}))
    centres = Guides.among(features, targets, metric="cosine", source="batch").centroids
    aims = F.normalize(centres.gallery)
    reach = torch.cdist(features, aims).masked_fill(~centres.negatives, -1)
    assert torch.equal(dd_step(*FNES).craft(batch)["farthest"], reach.argmax(dim=1))

    bank = CentroidBank(PEOPLE, 8, 0.9)
    with torch.no_grad():
        bank.means.copy_(features[[6, 0, 2, 4]]), bank.seen.fill_(True)
    step.bank.load_state_dict(bank.state_dict())
    bank.update(features, targets)
    reach = torch.cdist(features, F.normalize(bank.means))
    reach[torch.arange(8), targets] = -1
    assert torch.equal(step.craft(batch)["farthest"], reach.argmax(dim=1))
    assert not torch.equal(reach.argmax(dim=1), dd_step(*FNES).craft(batch)["farthest"])
    assert torch.equal(step.checkpointables()["centroid_bank"].means, bank.means)


def test_soft_labels_are_in_the_attacked_classification_loss_alone():
    batch, step = tiny_batch(), dd_step(*FNES, "DEFENSE.ATTACKED_WEIGHT", 0.5)
    attacked, twin = step.craft(batch), copy.deepcopy(step.model)
    found = step.losses(batch, attacked)
    hurt, plain = twin(attacked), twin(batch)
    for name, expected in (*plain.items(), ("loss_triplet_attacked", hurt["loss_triplet"] / 2)):
        assert torch.equal(found[name], expected)
    assert found["loss_cls_attacked"] != hurt["loss_cls"] / 2


def test_the_discriminator_starts_alike_and_draws_nothing_from_others():
    torch.manual_seed(3)
    dd_step(*GAME, model=tiny())
    drawn = torch.rand(1)
    torch.manual_seed(3)
    dd_step(model=tiny())
    assert torch.equal(torch.rand(1), drawn)


def test_the_discriminator_leaves_the_random_states_of_all_gpus_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: pytest.fail("it is asked for"))
    dd_step(*GAME)


@pytest.mark.parametrize("saturating", [False, True])
def test_clean_images_pass_for_the_discriminator_where_no_loss_is_on_them(saturating):
    opts = (*GAME, "DEFENSE.CLEAN_WEIGHT", 0.0, "DEFENSE.DISCRIMINATOR.SATURATING", saturating)
    step, batch = dd_step(*opts), tiny_batch()
    attacked = step.craft(batch)
    clean, hurt = (features_of(copy.deepcopy(step.model), each) for each in (batch, attacked))
    losses = step.losses(batch, attacked)
    assert losses.keys() == {"loss_cls_attacked", "loss_triplet_attacked", "loss_encoder"}
    expected = 0.1 * step.discriminator.encoder_loss(clean, hurt)
    torch.testing.assert_close(losses["loss_encoder"], expected)
    assert losses["loss_encoder"].requires_grad


def prepared(*opts):
    """A step in float64, its (clean, attacked) pair, and twins of its networks before it."""
    step = dd_step(*opts, "DEFENSE.CLEAN_WEIGHT", 0.5, "DEFENSE.DISCRIMINATOR.BASE_LR", 0.01)
    batch = tiny_batch()
    pair = [{**b, "images": b["images"].double()} for b in (batch, step.craft(batch))]
    step.model.double(), step.discriminator.network.double()
    return (
        step,
        pair_of(*pair),
        copy.deepcopy(step.model),
        copy.deepcopy(step.discriminator.network),
    )


def features_of(model, batch):
    maps = F.silu(model.norm(model.stem((batch["images"] - 120) / 60)))
    return model.trunk(maps).mean(dim=(-2, -1))


FNES_KEYS = ("targets", "farthest", "clean_shares")


def slow_total(step, model, judge, clean, attacked):
    """The sum of all losses; labels by loops, the discriminator by probabilities."""
    features = features_of(model, attacked)
    logs = model.heads.classifier(model.heads.bottleneck(features)).log_softmax(dim=1)
    rows = zip(*(attacked[key].tolist() for key in FNES_KEYS), strict=True)
    slow = torch.tensor([slow_label(step.softening, y, n, w, PEOPLE) for y, n, w in rows])
    # The step's own in what follows: they are float32, whose rounding the gradients would show.
    soft = step.softening.labels(*(attacked[key] for key in FNES_KEYS), PEOPLE)
    torch.testing.assert_close(soft, slow)
    hurt = -(soft * logs).sum() / len(soft) + model(attacked)["loss_triplet"]
    logits = judge(features_of(model, clean)), judge(features)
    if step.discriminator.saturating:
        sure = logits[0].sigmoid().log() + (1 - logits[1].sigmoid()).log()
    else:
        sure = -(logits[1] - logits[0]).sigmoid().log()
    return 0.5 * sum(model(clean).values()) + hurt + 0.1 * sure.mean()


def slow_judge(judge, model, clean, attacked):
    """The discriminator after its turn: Adam on the binary cross-entropy."""
    optimizer = torch.optim.Adam(judge.parameters(), lr=0.01)
    with torch.no_grad():
        both = torch.cat([features_of(copy.deepcopy(model), batch) for batch in (clean, attacked)])
        judge[0].mean, judge[0].variance = both.mean(dim=0), both.var(dim=0, correction=0)
    labels = torch.arange(2).flip(0).repeat_interleave(len(both) // 2)[:, None].double()
    (2 * F.binary_cross_entropy(judge(both).sigmoid(), labels)).backward()
    optimizer.step()
    return judge.requires_grad_(False)


@pytest.mark.parametrize("saturating", [False, True])
def test_gradients_of_the_first_order_step_are_those_of_plain_python(saturating):
    step, pair, model, judge = prepared(*ALL, "DEFENSE.DISCRIMINATOR.SATURATING", saturating)
    step.backward([pair], step.optimizer)
    judge = slow_judge(judge, model, *pair.values())
    for p, q in zip(step.discriminator.network.parameters(), judge.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-9, rtol=1e-6)
    train, test = split_identities(pair["clean"]["targets"], step.generator(0, HALVES))
    here, there = copy.deepcopy(model), copy.deepcopy(model)
    slow_total(step, here, judge, *(rows_of(batch, train) for batch in pair.values())).backward()
    with torch.no_grad():
        for p, q in zip(there.parameters(), here.parameters(), strict=True):
            p -= 0.1 * q.grad  # alpha is the optimizer's rate
    slow_total(step, there, judge, *(rows_of(batch, test) for batch in pair.values())).backward()
    for (name, p), q in zip(here.named_parameters(), there.parameters(), strict=True):
        found = step.model.get_parameter(name).grad
        torch.testing.assert_close(found, p.grad + q.grad, atol=1e-8, rtol=1e-5)


def test_the_second_order_step_descends_the_whole_objective():
    second = (*ALL, "DEFENSE.META.SECOND_ORDER", True, "DEFENSE.META.ALPHA", 0.05)
    step, pair, model, judge = prepared(*second)
    step.backward([pair], step.optimizer)
    judge = slow_judge(judge, model, *pair.values())
    halves = split_identities(pair["clean"]["targets"], step.generator(0, HALVES))
    train, test = ([rows_of(batch, rows) for batch in pair.values()] for rows in halves)
    gradients = [p.grad for p in step.model.parameters()]
    length = sum(g.square().sum() for g in gradients).sqrt()

    def objective(h):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for p, g in zip(moved.parameters(), gradients, strict=True):
                p += h * g / length
        first = slow_total(step, moved, judge, *train)
        inner = torch.autograd.grad(first, moved.parameters())
        with torch.no_grad():
            for p, g in zip(moved.parameters(), inner, strict=True):
                p -= 0.05 * g
        return (first + slow_total(step, moved, judge, *test)).item()

    slope = (objective(1e-6) - objective(-1e-6)) / 2e-6
    assert float(length) == pytest.approx(slope, rel=1e-5)


def test_accumulated_gradients_are_the_mean_and_the_discriminator_moves_once():
    step = dd_step(*GAME, *META)
    pairs = [pair_of(batch, step.craft(batch)) for batch in (tiny_batch(0), tiny_batch(1))]
    turns = []
    step.discriminator.step = lambda *features: turns.append(features) or torch.zeros(())
    step.generator = lambda index, purpose: torch.Generator().manual_seed(purpose)
    gradients = []
    for chosen in (pairs[:1], pairs[1:], pairs):
        step.backward(chosen, step.optimizer)
        gradients.append([p.grad.clone() for p in step.model.parameters()])
    for first, second, mean in zip(*gradients, strict=True):
        torch.testing.assert_close(mean, (first + second) / 2)
    assert len(turns) == 3
    for one, other, both in zip(*turns, strict=True):
        assert torch.equal(both, torch.cat([one, other])) and not both.requires_grad


def test_a_loss_scaler_changes_no_update():
    scaled, plain = dd_step(*ALL), dd_step(*ALL)
    scaled.grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    run(scaled), run(plain)
    for p, q in zip(scaled.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_mixed_precision_trains():
    step = dd_step(*ALL, "SOLVER.AMP.ENABLED", True)
    before = state(step.model)
    run(step)
    assert differing(before, state(step.model))


class Between(nn.Module):
    """Heads that see features with something added to them."""

    def __init__(self, heads, added):
        super().__init__()
        self.heads, self.added = heads, added

    def forward(self, features):
        return self.heads(features + self.added(features))


def test_second_order_goes_through_attention_or_names_the_operator_that_it_cannot_go_through():
    def attention(features):
        return F.scaled_dot_product_attention(*[features[None, None]] * 3)[0, 0]

    def distances(features):
        return torch.cdist(features, features).mean()

    attending, curved = tiny(), tiny()
    attending.heads = Between(attending.heads, attention)
    curved.heads = Between(curved.heads, distances)
    second = (*META, "DEFENSE.META.SECOND_ORDER", True)
    run(dd_step(*second, model=attending)), run(dd_step(*META, model=curved))
    with pytest.raises(InputError, match=r"META\.SECOND_ORDER: True; .*cdist.*; expected False"):
        run(dd_step(*second, model=curved))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ((*FNES, "DEFENSE.ATTACKED_WEIGHT", 0.0), r"FNES\.ENABLED: True needs .*ATTACKED_WEIGHT 0"),
        ((*GAME, "DEFENSE.ATTACKED_WEIGHT", 0.0), r"DISCRIMINATOR\.ENABLED: True needs"),
        (
            (*GAME, "DEFENSE.DISCRIMINATOR.WEIGHT", -1.0),
            r"DISCRIMINATOR\.WEIGHT: -1\.0; expected 0",
        ),
        ((*GAME, "DEFENSE.DISCRIMINATOR.HIDDEN", 0), r"DISCRIMINATOR\.HIDDEN: 0; expected 1 or"),
        ((*FNES, "DEFENSE.FNES.MIX", [0.5]), r"FNES\.MIX: \[0\.5\]; expected a list of 2"),
        ((*FNES, "DEFENSE.FNES.GAMMA", 0.5), r"FNES\.GAMMA: 0\.5"),
        (
            (*FNES, "DEFENSE.CENTROIDS.SOURCE", "bnak"),
            r"CENTROIDS\.SOURCE: 'bnak'; expected batch or bank",
        ),
        ((*FNES, "DEFENSE.CENTROIDS.MOMENTUM", 1.0), r"CENTROIDS\.MOMENTUM: 1\.0; .* below 1"),
        ((*META, "DEFENSE.META.ALPHA", -0.1), r"META\.ALPHA: -0\.1; expected 0 or more"),
        ((*META, "DEFENSE.INNER", "AntiCollapse"), r"META\.ENABLED: .*INNER AntiCollapse"),
    ],
)
def test_settings_that_cannot_work_are_refused(opts, message):
    with pytest.raises(InputError, match=rf"^DEFENSE\.{message}"):
        dd_step(*opts)


@pytest.mark.parametrize("part", [FNES, GAME])
def test_a_network_without_one_head_is_refused(part):
    model = tiny()
    model.first_head = model.heads
    del model.heads
    with pytest.raises(
        InputError, match=rf"^{part[0]}: True reads the outputs of one head; Tiny does not"
    ):
        dd_step(*part, model=model)


def test_a_network_without_classification_has_no_labels_to_soften():
    step = dd_step(*FNES)
    forward = step.model.forward
    # In evaluation mode, in which batches are attacked, it gives features as before.
    step.model.forward = lambda batch: (
        {"loss_triplet": forward(batch)["loss_triplet"]} if step.model.training else forward(batch)
    )
    with pytest.raises(InputError, match=r"FNES\.ENABLED: .* found loss_triplet"):
        run(step)
