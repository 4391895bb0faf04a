"""What a shield's service costs beside `judge` called directly, and whether it holds under load.

    python benchmarks/service.py [--clients 16] [--seconds 120] [--rounds 4] [--model ViT-B-32] [--json]

A CLIP with random weights and a shield of 1,000 classes and 10,000 antibodies (benchmarks/shield.py). `immuno guard
serve` runs in a process of its own, and so many clients send it one photo after another, each waiting for its answer.
In turn with that, `judge` is called directly with as many images at a time as there are clients. Shown are the
service's images per second over those of `judge`; the 99th percentile of what a client waits, in batches of `judge`;
answers that were lost or other than `judge`'s; and the service's memory in the last tenth of the time over that after
the first tenth.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from pictures import write_pictures
from safetensors.torch import save_file
from shield import make_shield

from cluster.encoder.encoder import load_encoder
from cluster.encoder.spec import EncoderSpec
from evaluation.shield.artefact import ShieldEncoder
from immuno.shield.shield import Shield

LEAST_SHARE, MOST_BATCHES, MOST_GROWTH = 0.9, 4.0, 1.1
"""What is promised: see docs/service.md."""
PICTURES = 64
SAME = 1e-4
"""Of scores: an image is embedded in batches of other sizes, and the head here amplifies by more than a fitted one."""


def write_shield(folder: Path, model: str, classes: int, antibodies: int) -> Path:
    """Write a random model of an architecture, and a shield for it; return the shield's folder."""
    made = folder / "model"
    made.mkdir()
    torch.manual_seed(0)
    save_file(open_clip.create_model(model, pretrained=None).state_dict(), made / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config(model), "preprocess_cfg": {}}
    (made / "open_clip_config.json").write_text(json.dumps(config))
    info = load_encoder(EncoderSpec(f"local-dir:{made}", device="cpu")).info
    shield = make_shield(classes, antibodies)
    encoder = ShieldEncoder(
        model=info.model,
        pretrained=None,
        dim=info.dim,
        logit_scale=info.logit_scale,
        image_size=info.image_size,
        precision="fp32",
        weights_digest=info.weights_digest,
        preprocess_digest=info.preprocess_digest,
    )
    manifest = shield.manifest.model_copy(update={"encoder": encoder})
    replace(shield, manifest=manifest).save(folder / "shield")
    return folder / "shield"


class Clients:
    """So many clients of a service on a port, and what they saw."""

    def __init__(self, port: int, images: list[bytes], expected: list[float]) -> None:
        self.port, self.images, self.expected = port, images, expected
        self.waits: list[float] = []
        self.wrong = 0

    def run(self, number: int, seconds: float) -> float:
        """Ask for that long; return images per second."""
        before, started = len(self.waits), time.perf_counter()
        threads = [threading.Thread(target=self._ask, args=(i, started + seconds)) for i in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (len(self.waits) - before) / (time.perf_counter() - started)

    def _ask(self, place: int, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while time.perf_counter() < end:
            row = place % len(self.images)
            place += 1
            head = b'--x\r\ncontent-disposition: form-data; name="i"; filename="i.jpg"\r\n\r\n'
            started = time.perf_counter()
            try:
                connection.request(
                    "POST",
                    "/judge",
                    head + self.images[row] + b"\r\n--x--\r\n",
                    {"content-type": "multipart/form-data; boundary=x"},
                )
                answer = connection.getresponse()
                (said,) = json.loads(answer.read())["verdicts"]
                self.wrong += abs(said["score"] - self.expected[row]) > SAME
            except (OSError, KeyError, ValueError, TypeError, http.client.HTTPException):
                self.wrong += 1
                connection.close()
            self.waits.append(time.perf_counter() - started)
        connection.close()

    def memory(self) -> float:
        """The service's resident memory in MiB."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
        return float(found[1]) / 2**20 if found else float("nan")


def direct(shield: Shield, images: list[bytes], at_once: int, seconds: float) -> list[float]:
    """Seconds of each call of `judge` within a time."""
    times: list[float] = []
    while sum(times) < seconds:
        start = len(times) * at_once
        given = [images[(start + i) % len(images)] for i in range(at_once)]
        started = time.perf_counter()
        shield.judge(given)
        times.append(time.perf_counter() - started)
    return times


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the service and `judge` in turn."""
    place = write_shield(folder, options.model, options.classes, options.antibodies)
    images = [path.read_bytes() for path in write_pictures(folder / "pictures", PICTURES, size=(500, 375))]
    shield = Shield.load(place, device="cpu")
    expected = [float(one.score or 0.0) for one in shield.judge(images)]
    command = [sys.executable, "-m", "immuno", "guard", "serve", str(place), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        lines: Any = process.stderr
        port = int(lines.readline().rpartition(":")[2])
        lines.readline()  # ready
        clients = Clients(port, images, expected)
        clients.run(options.clients, 5)
        clients.waits.clear()
        each = options.seconds / options.rounds
        memory: list[tuple[float, float]] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(min(2.0, options.seconds / 40)):
                memory.append((time.perf_counter(), clients.memory()))

        watching = threading.Thread(target=watch)
        watching.start()
        shares, rates, calls = [], [], []
        began = time.perf_counter()
        for _ in range(options.rounds):
            times = direct(shield, images, options.clients, each / 8)
            rate = clients.run(options.clients, each)
            times += direct(shield, images, options.clients, each / 8)
            calls += times
            rates.append(rate)
            shares.append(rate * statistics.mean(times) / options.clients)
        took = time.perf_counter() - began
        stop.set()
        watching.join()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    early = [value for at, value in memory if at - began <= took / 10] or [memory[0][1]]
    late = [value for at, value in memory if at - began >= 9 * took / 10]
    return {
        "model": options.model,
        "clients": options.clients,
        "seconds": options.seconds,
        "requests": len(clients.waits),
        "images_per_second": statistics.median(rates),
        "judge_images_per_second": options.clients / statistics.median(calls),
        "share_of_judge": statistics.median(shares),
        "share_range": [min(shares), max(shares)],
        "median_batches": float(np.quantile(clients.waits, 0.5)) / statistics.median(calls),
        "p99_batches": float(np.quantile(clients.waits, 0.99)) / statistics.median(calls),
        "lost_or_wrong": clients.wrong,
        "memory_mib": [max(early), max(late)],
        "memory_growth": max(late) / max(early),
        "exit_status": process.returncode,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clients", 16), ("rounds", 4), ("classes", 1000), ("antibodies", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--model", default="ViT-B-32", help="an architecture of 512 dimensions")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="service-") as folder:
        found = measure(options, Path(folder))
    if options.json:
        print(json.dumps(found))
        return
    low, high = found["share_range"]
    early, late = found["memory_mib"]
    print(
        f"{found['model']}, {found['clients']} clients, {found['seconds']:g} s in {options.rounds} rounds, "
        f"{found['requests']:,} requests, {found['images_per_second']:.1f} images a second\n"
        f"over judge called directly: {found['share_of_judge']:.2f} ({low:.2f} to {high:.2f}); "
        f"at least {LEAST_SHARE:g}\n"
        f"waiting, in batches of judge: median {found['median_batches']:.2f}, 99th percentile "
        f"{found['p99_batches']:.2f} (under {MOST_BATCHES:g})\n"
        f"lost or wrong: {found['lost_or_wrong']}; exit status {found['exit_status']}\n"
        f"memory: {early:,.0f} MiB, at the end {late:,.0f}: {found['memory_growth']:.3f} (at most {MOST_GROWTH:g})"
    )


if __name__ == "__main__":
    main()
