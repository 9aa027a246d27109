"""What scripts/claims trains: arms by name, and which of them each claim compares."""
from dataclasses import replace

from experiments.runs import Arm

DECODER = "configs/claims/decoder.textproto"
DENSE = "configs/claims/dense.textproto"
LSTM = "configs/claims/lstm.textproto"
LR_GRID = (2e-3, 5e-3, 1e-2)
LR = {DECODER: 1e-2, DENSE: 1e-2, LSTM: 1e-2}  # of all arms of a config; rows "learning rates" of the report
NOTHING_DROPS = 64  # a capacity factor of at least the number of experts


def at_rate(rate):
    return (f"optimizer.lr={rate:g}", f"optimizer.min_lr={rate / 20:g}")


def arm(config, name, label, *sets):
    return Arm(name, label, config, (*at_rate(LR[config]), *sets))


def moe(experts, width=64, top_k=1):
    return (f"model.moe.num_experts={experts}", f"model.moe.d_ff={width}", f"model.moe.top_k={top_k}")


def capacity(factor):
    """Of the whole batch, as one group of tokens; evaluation drops nothing."""
    return ("model.moe.capacity.policy=BY_POSITION", f"model.moe.capacity.train_factor={factor}",
            f"model.moe.capacity.eval_factor={NOTHING_DROPS}", "model.moe.capacity.group_sequences=32")


def aux(coefficient):
    return (f"model.moe.balance_loss.coefficient={coefficient:g}",)


def switch(name, label, experts=8, factor=2.0, balance=0.01, extra=()):
    return arm(DECODER, name, label, *moe(experts), *capacity(factor), *aux(balance), *extra)


def shazeer(name, label, experts, weight=0.1, extra=()):
    losses = [f"model.moe.{kind}_loss_coefficient={weight:g}" for kind in ("importance", "load")]
    return arm(LSTM, name, label, f"model.moe.num_experts={experts}", *losses, *extra)


def vowels(name, label, network, *sets):
    return Arm(name, label, f"configs/{network}.textproto", sets)


def sigmoid(name, label, *sets):
    score = ("model.moe.router.score=SIGMOID",)
    return arm(DECODER, name, label, *moe(32, 16, 8), *score, *sets)


def moved_bias(rate):
    return ("model.moe.router.selection_bias=true", f"model.moe.router.bias_update_rate={rate:g}", *aux(0))


SQUARED = "model.local_experts.error=COOPERATIVE"  # of one expert: twice the mixture's error
HIDDEN_12 = "model.local_experts.hidden_units=12"
VOWELS = {
    "moe4": vowels("vowels_moe4", "4 experts", "vowels"),
    "moe8": vowels("vowels_moe8", "8 experts", "vowels", "model.local_experts.num_experts=8"),
    "bp6": vowels("vowels_bp6", "6 hidden units", "vowels_backprop"),
    "bp12": vowels("vowels_bp12", "12 hidden units", "vowels_backprop", HIDDEN_12),
    "bp6_squared": vowels("vowels_bp6_squared", "6 units, squared", "vowels_backprop", SQUARED),
    "bp12_squared": vowels("vowels_bp12_squared", "12 units, squared", "vowels_backprop", HIDDEN_12, SQUARED),
}
ALL_CHOSEN = ("model.moe.load_loss_coefficient=0",)  # with top-4 of 4 there is no load to estimate
LSTM_SIZES = {e: shazeer(f"lstm_e{e}", f"{e} experts", e, extra=ALL_CHOSEN if e == 4 else ()) for e in (4, 16, 64)}
IN_GROUPS = shazeer("lstm_e64_h", "64 experts in 8 groups", 64, extra=(
    "model.moe.router.hierarchy=TWO_LEVEL", "model.moe.router.num_groups=8", "model.moe.router.group_top_k=2"))
LSTM_LOSSES = {
    0: shazeer("lstm_e32_w0", "no losses", 32, 0, ("log.every=1",)),
    0.1: shazeer("lstm_e32_w0.1", "both 0.1", 32, 0.1, ("log.every=1",)),
}
DENSE_64 = arm(DENSE, "dense", "dense")
SWITCH = {e: switch(f"switch_e{e}", f"{e} experts", e) for e in (2, 4, 8)}
FACTORS = {
    1: switch("switch_cf1", "CF 1", factor=1),
    1.25: switch("switch_cf1.25", "CF 1.25", factor=1.25),
    2: replace(SWITCH[8], label="CF 2"),
}
BALANCE = {
    0: switch("switch_aux0", "aux 0", factor=1.25, balance=0),
    1e-3: switch("switch_aux0.001", "aux 0.001", factor=1.25, balance=1e-3),
    1e-2: replace(FACTORS[1.25], label="aux 0.01"),
    1e-1: switch("switch_aux0.1", "aux 0.1", factor=1.25, balance=1e-1),
}
Z_LOSS = {
    0: replace(SWITCH[8], label="z 0"),
    1e-3: switch("switch_z0.001", "z 0.001", extra=("model.moe.z_loss_coefficient=0.001",)),
    1e-2: switch("switch_z0.01", "z 0.01", extra=("model.moe.z_loss_coefficient=0.01",)),
}
BF16 = "runtime.compute=BF16"
PRECISION = {
    "float32": replace(SWITCH[8], label="all float32"),
    "selective": switch("switch_bf16", "bfloat16, router float32", extra=(BF16,)),
    "coarse": switch("switch_bf16_router", "bfloat16, router too", extra=(BF16, "model.moe.router.precision=ROUTER_BF16")),
}
RAW = "model.moe.router.weighting=RAW"
TOP_2 = {
    "gshard": arm(DECODER, "top2_of_8", "top-2 of 8", *moe(8, 64, 2)),
    "fine": arm(DECODER, "top8_of_32", "8 of 32", *moe(32, 16, 8), RAW),
    "shared": arm(DECODER, "shared_7_of_31", "1 shared + 7 of 31", *moe(31, 16, 7), RAW,
                  "model.moe.shared_expert.count=1"),
}
CAPACITY = [*FACTORS.values(), replace(BALANCE[0], label="CF 1.25, aux 0"), replace(TOP_2["gshard"], label="top-2, no drops")]
SIGMOID = {
    "none": sigmoid("sigmoid_aux0", "no balancing", *aux(0)),
    1e-3: sigmoid("sigmoid_bias0.001", "bias 0.001", *moved_bias(1e-3)),
    1e-2: sigmoid("sigmoid_bias0.01", "bias 0.01", *moved_bias(1e-2)),
    "aux": sigmoid("sigmoid_aux0.01", "aux 0.01", *aux(0.01)),
}


def rate_arms(base):
    """The base at every rate of the grid, as (rate, arm)."""
    others = base.sets[2:]
    return [(rate, base if rate == LR[base.config] else
             Arm(f"{base.name}_lr{rate:g}", base.label, base.config, (*at_rate(rate), *others))) for rate in LR_GRID]


RATES = {"dense": rate_arms(DENSE_64), "Switch, 8 experts": rate_arms(SWITCH[8]),
         "LSTM, 16 experts": rate_arms(LSTM_SIZES[16])}
