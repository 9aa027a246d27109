"""What scripts/claims measures on a finished run's checkpoint: gates of local experts, and losses with experts zeroed."""
import csv
import hashlib
import json
import math
import shutil
import struct
from pathlib import Path

VOWELS = ("iy", "ih", "aa", "ah")
IN_USE = 0.05  # least mean gate of an expert that counts
ROUTED = (0, 10, 20)  # experts zeroed in turn


def open_shard(path):
    """Name -> (type, shape, first byte, last byte + 1) of a safetensors file, and its bytes."""
    data = bytearray(Path(path).read_bytes())
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    return {name: (t["dtype"], t["shape"], *(8 + size + offset for offset in t["data_offsets"]))
            for name, t in header.items() if name != "__metadata__"}, data


def doubles(tensors, data, name):
    kind, shape, begin, end = tensors[name]
    assert kind == "F64", f"{name} is {kind}"
    return struct.unpack(f"<{(end - begin) // 8}d", data[begin:end]), shape


def vowel_cases(path):
    """Formants F1 and F2 of the four vowels, scaled to mean 0 and variance 1 over all speakers."""
    with open(path, newline="") as file:
        rows = [(float(row["F1"]), float(row["F2"])) for row in csv.DictReader(file) if row["Vowel"] in VOWELS]
    columns = []
    for column in zip(*rows):
        center = sum(column) / len(column)
        scale = math.sqrt(sum((value - center) ** 2 for value in column) / len(column))
        columns.append([(value - center) / scale for value in column])
    return list(zip(*columns))


def active_experts(run, table="corpus/pb52.csv"):
    tensors, data = open_shard(run.checkpoint() / "weights-00000-of-00001.safetensors")
    weight, (experts, features) = doubles(tensors, data, "gate.weight")
    bias, _ = doubles(tensors, data, "gate.bias")
    cases, total = vowel_cases(table), [0.0] * experts
    for case in cases:
        logits = [bias[e] + sum(weight[e * features + f] * case[f] for f in range(features)) for e in range(experts)]
        exponents = [math.exp(logit - max(logits)) for logit in logits]
        for e in range(experts):
            total[e] += exponents[e] / sum(exponents)
    return sum(gate > IN_USE * len(cases) for gate in total)


def crc32c(data):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return f"{crc ^ 0xFFFFFFFF:08x}"


def zeroed_copy(checkpoint, into, is_zeroed):
    """A checkpoint with the entries zeroed that the function picks by name; see docs/checkpoint_format.md."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(checkpoint, into)
    shard = into / "weights-00000-of-00001.safetensors"
    tensors, data = open_shard(shard)
    manifest = json.loads((into / "manifest.json").read_text())
    names = [name for name in tensors if is_zeroed(name)]
    assert names, "no tensor to zero"
    for name in names:
        _, _, begin, end = tensors[name]
        data[begin:end] = bytes(end - begin)
        piece, = (p for t in manifest["tensors"].values() for p in t["pieces"] if p["entry"] == name)
        piece["crc32c"] = crc32c(data[begin:end])
    shard.write_bytes(data)
    (into / "manifest.json").write_text(json.dumps(manifest))
    lines = [line.split("  ")[1] for line in (into / "COMMIT").read_text().splitlines()]
    (into / "COMMIT").write_text("".join(f"{hashlib.sha256((into / name).read_bytes()).hexdigest()}  {name}\n" for name in lines))
    return into


def zeroing_losses(run, runner):
    """Held-out loss of the run as it is, without its shared expert, and without one routed expert."""
    kept = run.folder / "zeroing.json"
    if kept.exists():
        return json.loads(kept.read_text())
    checkpoint, copy = run.checkpoint(), run.folder / "zeroed" / run.checkpoint().name

    def loss_without(ending):
        return runner.evaluate(zeroed_copy(checkpoint, copy, lambda name: name.endswith(ending)))

    routed = [loss_without(f".experts.w2[{expert}:{expert + 1}]") for expert in ROUTED]
    losses = {"none": runner.evaluate(checkpoint), "shared": loss_without(".shared_expert.w2"),
              "routed": sum(routed) / len(routed)}
    shutil.rmtree(copy.parent)
    kept.write_text(json.dumps(losses))
    return losses
