"""Training runs for scripts/claims: started several at a time, kept when finished, and read back."""
import json
import math
import os
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

MARKER = "claims.json"  # in a run's folder: the command that it is of, and whether it finished


@dataclass(frozen=True)
class Arm:
    name: str  # of its run folders, with the seed after it
    label: str = field(compare=False)  # in tables; an arm may have another in another claim
    config: str
    sets: tuple = ()  # path=value


class RunFailed(Exception):
    pass


class Run:
    """One finished run: the lines of its metrics.jsonl."""

    def __init__(self, folder):
        self.folder = Path(folder)
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        self.records = [json.loads(line) for line in lines]

    def curve(self, key):
        return [(r["step"], r[key]) for r in self.records if r.get(key) is not None]

    def last(self, key):
        return self.curve(key)[-1][1]

    def first(self, key):
        return self.curve(key)[0][1]

    def tail(self, key):
        """Mean over the last tenth of the steps."""
        curve = self.curve(key)
        values = [value for step, value in curve if step > 0.9 * curve[-1][0]]
        return sum(values) / len(values)

    def checkpoint(self):
        return self.folder / "checkpoints" / f"step_{self.records[-1]['step']}"


def mean(values):
    return sum(values) / len(values)


def deviation(values):
    """Of a sample; None for one value."""
    if len(values) < 2:
        return None
    center = mean(values)
    return math.sqrt(sum((v - center) ** 2 for v in values) / (len(values) - 1))


def duration(seconds):
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m" if minutes else f"{seconds:.0f}s"


class Runner:
    def __init__(self, binary, folder, jobs):
        self.binary, self.folder, self.jobs = binary, Path(folder), jobs
        self.lock = threading.Lock()
        self.done = self.total = self.trained = 0
        self.begin = time.monotonic()

    def path(self, arm, seed):
        return self.folder / f"{arm.name}-{seed}"

    def arguments(self, arm, seed):
        sets = (f"name={arm.name}-{seed}", f"output_dir={self.folder}", f"seed={seed}", *arm.sets)
        return ["train", arm.config, *(part for item in sets for part in ("--set", item))]

    def marker(self, arm, seed):
        try:
            return json.loads((self.path(arm, seed) / MARKER).read_text())
        except FileNotFoundError:
            return None

    def mark(self, arm, seed, finished):
        folder = self.path(arm, seed)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"arguments": self.arguments(arm, seed), "finished": finished})
        (folder / (MARKER + ".new")).write_text(text)
        os.replace(folder / (MARKER + ".new"), folder / MARKER)

    def is_finished(self, arm, seed):
        marker = self.marker(arm, seed)
        return marker == {"arguments": self.arguments(arm, seed), "finished": True}

    def make_room(self, arm, seed):
        """A run of other settings goes; one that was interrupted stays, and is resumed."""
        folder, marker = self.path(arm, seed), self.marker(arm, seed)
        if folder.exists() and marker is None:
            raise RunFailed(f"{folder} is no run of this script; move it away, or choose another --runs FOLDER")
        if marker and marker["arguments"] != self.arguments(arm, seed):
            shutil.rmtree(folder)

    def train(self, arm, seed):
        self.make_room(arm, seed)
        self.mark(arm, seed, finished=False)
        begin = time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run([self.binary, *self.arguments(arm, seed)], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if result.returncode != 0:
            raise RunFailed(f"{arm.name}-{seed} ended with exit code {result.returncode}:\n{result.stdout[-2000:]}")
        self.mark(arm, seed, finished=True)
        self.report(arm, seed, time.monotonic() - begin)

    def report(self, arm, seed, seconds):
        with self.lock:
            self.done += 1
            self.trained += 1
            left = (time.monotonic() - self.begin) / self.trained * (self.total - self.done)
            loss = Run(self.path(arm, seed)).last("eval/loss")
            print(f"claims: {self.done}/{self.total}  {arm.name}-{seed}: held-out loss {loss:.4f} "
                  f"in {duration(seconds)}  eta {duration(left)}", flush=True)

    def run(self, wanted):
        """Trains what is not finished of (arm, seed) pairs, in their order. RunFailed after the others are done."""
        todo = [(arm, seed) for arm, seed in wanted if not self.is_finished(arm, seed)]
        self.total, self.done = len(wanted), len(wanted) - len(todo)
        self.begin = time.monotonic()
        print(f"claims: {self.total} runs, {self.done} of them kept, {self.jobs} at a time", flush=True)
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self.train, arm, seed) for arm, seed in todo]
        failures = [str(f.exception()) for f in futures if f.exception()]
        if failures:
            raise RunFailed("\n".join(failures))

    def load(self, arm, seeds):
        return [Run(self.path(arm, seed)) for seed in seeds]

    def version(self):
        return subprocess.run([self.binary, "--version"], text=True, check=True, capture_output=True).stdout.strip()

    def ask(self, *arguments):
        """What the binary prints as JSON."""
        result = subprocess.run([self.binary, *arguments, "--json"], text=True, check=False, capture_output=True,
                                env={**os.environ, "OMP_NUM_THREADS": "1"})
        if result.returncode != 0:
            raise RunFailed(f"{' '.join(arguments)} ended with exit code {result.returncode}:\n{result.stderr[-2000:]}")
        return json.loads(result.stdout)

    def evaluate(self, checkpoint):
        return self.ask("eval", str(checkpoint), "--sequences", "128")["loss"]

    def best_weight(self, logits, *sets):
        """Of one token's first choice, by its probability as it is."""
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.write(",".join(map(str, logits)) + "\n")
            file.flush()
            rule = ("model.moe.router.weighting=RAW", "model.moe.top_k=1", *sets)
            report = self.ask("inspect", "routing", "--router", "mixtral_tiny", "--logits", file.name,
                              *(part for item in rule for part in ("--set", item)))
        return report["tokens"][0][0]["weight"]
