"""The arithmetic behind scripts/claims: charts, statistics, steps to a loss, zeroed checkpoints."""
import hashlib
import json
import struct
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from experiments import arms, charts, judge, probe, runs


def write_shard(path, tensors):
    header, data = {}, b""
    for name, values in tensors.items():
        header[name] = {"dtype": "F64", "shape": [len(values)], "data_offsets": [len(data), len(data) + 8 * len(values)]}
        data += struct.pack(f"<{len(values)}d", *values)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Charts(unittest.TestCase):
    def test_lines_span_the_plot_and_share_a_legend(self):
        lines = [charts.Line("a <b>", "red", [(0, 3.0), (10, 1.0)]), charts.Line("a <b>", "red", [(0, 2.0), (5, 2.0)])]
        root = xml.fromstring(charts.line_chart(lines, "step", "loss"))
        drawn = [e.get("points") for e in root if e.tag.endswith("polyline")]
        self.assertEqual(drawn, ["60.0,30.0 620.0,330.0", "60.0,180.0 340.0,180.0"])
        self.assertEqual(sum(e.text == "a <b>" for e in root), 1)

    def test_dots_show_every_seed_and_survive_equal_values(self):
        root = xml.fromstring(charts.dot_chart([charts.Column("x", [2.0, 2.0]), charts.Column("y", [2.0])], "loss"))
        self.assertEqual(sum(e.tag.endswith("circle") for e in root), 3)


class Statistics(unittest.TestCase):
    def test_deviation_is_that_of_a_sample(self):
        self.assertAlmostEqual(runs.deviation([1.0, 3.0]), 2 ** 0.5)
        self.assertIsNone(runs.deviation([1.0]))
        self.assertEqual(judge.spread([1.0, 3.0], 2), "2.00 ± 1.41")

    def test_steps_to_a_loss_are_interpolated_on_the_running_minimum(self):
        curve = [(100, 3.0), (200, 2.0), (300, 2.5), (400, 1.0)]
        self.assertEqual(judge.steps_to(curve, 2.5), 150)
        self.assertEqual(judge.steps_to(curve, 1.5), 300)
        self.assertEqual(judge.steps_to(curve, 3.5), 100)
        self.assertIsNone(judge.steps_to(curve, 0.5))

    def test_the_tail_is_the_last_tenth(self):
        with tempfile.TemporaryDirectory() as folder:
            lines = [json.dumps({"step": step, "loss": float(step)}) for step in range(1, 101)]
            Path(folder, "metrics.jsonl").write_text("\n".join(lines))
            self.assertEqual(runs.Run(folder).tail("loss"), 95.5)


class Arms(unittest.TestCase):
    def test_one_name_is_one_set_of_settings(self):
        known = {}
        rates = [arm for pairs in arms.RATES.values() for _, arm in pairs]
        for arm in rates + [arm for claim in judge.CLAIMS for arm in claim.arms]:
            self.assertEqual(known.setdefault(arm.name, arm), arm)


class Probe(unittest.TestCase):
    def test_crc32c_has_its_check_value(self):
        self.assertEqual(probe.crc32c(b"123456789"), "e3069283")

    def test_a_zeroed_copy_has_fitting_checksums(self):
        with tempfile.TemporaryDirectory() as folder:
            source, copy = Path(folder, "step_1"), Path(folder, "copy", "step_1")
            source.mkdir()
            write_shard(source / "weights-00000-of-00001.safetensors", {"a.w1": [1.0, 2.0], "a.w2": [3.0]})
            pieces = {name: {"pieces": [{"entry": name, "crc32c": "1"}]} for name in ("a.w1", "a.w2")}
            (source / "manifest.json").write_text(json.dumps({"tensors": pieces}))
            (source / "COMMIT").write_text("0  manifest.json\n0  weights-00000-of-00001.safetensors\n")
            probe.zeroed_copy(source, copy, lambda name: name.endswith(".w2"))
            tensors, data = probe.open_shard(copy / "weights-00000-of-00001.safetensors")
            self.assertEqual(probe.doubles(tensors, data, "a.w2")[0], (0.0,))
            self.assertEqual(probe.doubles(tensors, data, "a.w1")[0], (1.0, 2.0))
            checksums = {n: t["pieces"][0]["crc32c"] for n, t in json.loads((copy / "manifest.json").read_text())["tensors"].items()}
            self.assertEqual(checksums, {"a.w1": "1", "a.w2": probe.crc32c(bytes(8))})
            for line in (copy / "COMMIT").read_text().splitlines():
                digest, name = line.split("  ")
                self.assertEqual(digest, hashlib.sha256((copy / name).read_bytes()).hexdigest())


if __name__ == "__main__":
    unittest.main()
