"""CPU time of imagesieve beside fastdup, cleanvision and imagededup, on the same images in the same run.

    python -m tests.bench.peers --photos DIR [--small N] [--large N] [--peers NAME,NAME] [--work DIR]

prints one JSON line. DIR: JPEG photographs, repeated under other names until there are enough (tests.bench.many). Each
program looks at a folder of N images of either size. `cpu_s` is the user and system time of all its processes.
`cpu_ms_per_image` is the slope between the two sizes, so that starting a program costs nothing. `cpu_ratio` is the
slope of a peer by ours: by that of our embed stage alone, and by that of a whole `imagesieve run`, catalog to report.
Each has seen a few images once before it is measured, so that nobody pays for what is made at the first use.

The peers are installed from PyPI with uv, each into an environment of its own, new in each run; imagededup brings 5 GB
of torch. They are measured, never shipped: fastdup's licence allows non-commercial use only, the others are Apache-2.0.
Each is used as its documentation says for a folder, with as many threads as it likes. No weights are downloaded: what
needs some is measured where torch has them already. SENTRY_OPT_OUT keeps fastdup from reporting its use.

One that cannot be installed, fails, or did not look at all images is in the output with the reason."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import many, process_tree

ROOT = Path(__file__).resolve().parent.parent.parent
WARM_UP = 40  # images
TIMEOUT_S = 3600.0
NO_WEIGHTS = "not measured: its weights cannot be fetched here"

# Each program gets a folder of images and an empty folder to work in, and prints at last how many images it looked at.
FASTDUP = """
import sys
import fastdup
fastdup.create(input_dir=sys.argv[1], work_dir=sys.argv[2]).run()
with open(sys.argv[2] + "/atrain_features.dat.csv") as features:
    print(sum(1 for line in features) - 1)
"""
CLEANVISION = """
import sys
from cleanvision import Imagelab
if __name__ == "__main__":
    lab = Imagelab(data_path=sys.argv[1])
    lab.find_issues()
    print(len(lab.issues))
"""
# recursive: the images are in sub-folders, which the others look into by themselves.
PHASH = """
import sys
from imagededup.methods import PHash
if __name__ == "__main__":
    method = PHash()
    encodings = method.encode_images(image_dir=sys.argv[1], recursive=True)
    print(len(method.find_duplicates(encoding_map=encodings)))
"""
CNN = f"""
import os, sys
import torch
from torchvision.models import MobileNet_V3_Small_Weights
weights = os.path.basename(MobileNet_V3_Small_Weights.IMAGENET1K_V1.url)
if not os.path.exists(os.path.join(torch.hub.get_dir(), "checkpoints", weights)):
    sys.exit("{NO_WEIGHTS} ({{}} is not in {{}})".format(weights, torch.hub.get_dir()))
from imagededup.methods import CNN
if __name__ == "__main__":
    method = CNN()
    encodings = method.encode_images(image_dir=sys.argv[1], recursive=True)
    print(len(method.find_duplicates(encoding_map=encodings)))
"""


@dataclass(frozen=True)
class Peer:
    """requirement: what to install. programs: by the name of what they do."""

    requirement: str
    licence: str
    programs: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)


PEERS = {
    "fastdup": Peer("fastdup==2.54", "CC-BY-NC-ND-4.0", {"fastdup": FASTDUP}, {"SENTRY_OPT_OUT": "1"}),
    "cleanvision": Peer("cleanvision==0.3.7", "Apache-2.0", {"cleanvision": CLEANVISION}),
    "imagededup": Peer(
        "imagededup==0.3.3.post2", "Apache-2.0", {"imagededup PHash": PHASH, "imagededup CNN": CNN}
    ),
}  # fmt: skip


class NotMeasuredError(Exception):
    """Says why."""


# Does its work on a folder of so many images, and returns what that took. The path is an empty folder to work in.
# Raises NotMeasuredError.
Program = Callable[[Path, int, Path], process_tree.Measured]


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "nothing"


def checked(measured: process_tree.Measured) -> process_tree.Measured:
    """Raises NotMeasuredError where the command failed or had to be killed in part."""
    if measured.returncode:
        why = last_line(measured.err or measured.out)
        raise NotMeasuredError(why if why.startswith(NO_WEIGHTS) else f"exit code {measured.returncode}: {why}")
    if measured.killed:
        raise NotMeasuredError(f"{measured.killed} of its processes did not end")
    return measured


def peer_program(python: Path, source: str, environment: Mapping[str, str]) -> Program:
    """python: that of the environment that the peer is installed in."""

    def program(images: Path, count: int, work: Path) -> process_tree.Measured:
        file, home, results = work / "program.py", work / "home", work / "results"
        file.write_text(source, encoding="utf-8")
        home.mkdir()
        results.mkdir()
        torch_home = os.environ.get("TORCH_HOME", str(Path.home() / ".cache" / "torch"))
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "TORCH_HOME": torch_home, **environment}
        command = [str(python), str(file), str(images), str(results)]
        measured = checked(process_tree.run(command, env, work, TIMEOUT_S))
        if (looked_at := last_line(measured.out)) != str(count):
            raise NotMeasuredError(f"it was given {count} images, and at last said: {looked_at}")
        return measured

    return program


def imagesieve_program(*, only_embed: bool) -> Program:
    """A whole run, or its embed stage alone."""

    def program(images: Path, count: int, work: Path) -> process_tree.Measured:
        from deltalake import DeltaTable

        def command(*arguments: str) -> process_tree.Measured:
            whole = [sys.executable, "-m", "jobs.command", *arguments, "--lake", str(work / "lake")]
            return checked(process_tree.run(whole, cwd=ROOT, timeout_s=TIMEOUT_S))

        if only_embed:
            command("catalog", str(images))
            measured = command("embed")
        else:
            measured = command("run", str(images), "--report", str(work / "report"))
        if (embedded := DeltaTable(str(work / "lake" / "embeddings")).count()) != count:
            raise NotMeasuredError(f"it embedded {embedded} of {count} images")
        return measured

    return program


def measure(program: Program, folders: Mapping[int, Path], work: Path) -> dict[str, Any]:
    """CPU seconds at each size, and the milliseconds an image between the lowest and the highest of them.

    folders: images by their number, the first for warming up. Returns {"failed": why} where it was not measured."""
    sizes = list(folders)
    cpu_s, wall_s, peak_mb = {}, {}, {}
    try:
        for size in sizes:
            with tempfile.TemporaryDirectory(dir=work) as scratch:
                measured = program(folders[size], size, Path(scratch))
            if size != sizes[0]:
                cpu_s[str(size)] = round(measured.cpu_s, 2)
                wall_s[str(size)] = round(measured.wall_s, 2)
                peak_mb[str(size)] = max(measured.peak_mb.values(), default=0.0)
    except (NotMeasuredError, OSError) as error:
        return {"failed": str(error)}
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {TIMEOUT_S:.0f} s"}
    low, high = str(min(sizes[1:])), str(max(sizes[1:]))
    slope = (cpu_s[high] - cpu_s[low]) / (int(high) - int(low)) * 1000
    return {
        "cpu_ms_per_image": round(slope, 3),
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "peak_mb_of_one_process": peak_mb,
    }


def ratios(peer: Mapping[str, Any], ours: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """The slope of a peer by each of ours; null where one of them was not measured or lost in noise."""
    found: dict[str, float | None] = {}
    for reading, own in ours.items():
        theirs, mine = peer.get("cpu_ms_per_image", 0), own.get("cpu_ms_per_image", 0)
        found[reading] = round(theirs / mine, 2) if theirs > 0 and mine > 0 else None
    return found


def install(peer: Peer, folder: Path) -> Path:
    """Makes the environment and returns its Python. Raises NotMeasuredError with uv's last line."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotMeasuredError("not installed: uv is needed (pip install uv)")
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), peer.requirement],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotMeasuredError(f"not installed: {last_line(done.stderr)}")
    return python


def measured_peer(peer: Peer, folders: Mapping[int, Path], work: Path) -> dict[str, dict[str, Any]]:
    """What `measure` says of each of its programs."""
    about = {"version": peer.requirement.partition("==")[2], "licence": peer.licence}
    with tempfile.TemporaryDirectory(dir=work) as environment:
        try:
            python = install(peer, Path(environment))
        except NotMeasuredError as error:
            return {name: {**about, "failed": str(error)} for name in peer.programs}
        return {
            name: {**about, **measure(peer_program(python, source, peer.environment), folders, work)}
            for name, source in peer.programs.items()
        }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers")
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG photographs")
    parser.add_argument("--small", type=int, default=2000, metavar="N", help="images of the smaller folder")
    parser.add_argument("--large", type=int, default=8000, metavar="N", help="images of the larger folder")
    parser.add_argument("--peers", default=",".join(PEERS), help="which of them, with commas between")
    parser.add_argument("--work", type=Path, help="existing folder for environments, images and lakes, removed again")
    options = parser.parse_args(argv)
    chosen = [name for name in options.peers.split(",") if name]
    if unknown := sorted(set(chosen) - set(PEERS)):
        parser.error(f"--peers: no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if not WARM_UP < options.small < options.large:
        parser.error(f"--small must be more than {WARM_UP} and less than --large")
    machine = process_tree.machine()
    with tempfile.TemporaryDirectory(dir=options.work, prefix="peers-") as name:
        work = Path(name)
        folders = {size: work / f"images-{size}" for size in (WARM_UP, options.small, options.large)}
        for size, folder in folders.items():
            many.make(options.photos, folder, size)
        programs = {
            "embed_stage": imagesieve_program(only_embed=True),
            "whole_run": imagesieve_program(only_embed=False),
        }
        ours = {reading: measure(program, folders, work) for reading, program in programs.items()}
        theirs: dict[str, dict[str, Any]] = {}
        for peer in chosen:
            theirs |= measured_peer(PEERS[peer], folders, work)
    from jobs import __version__

    for figures in theirs.values():
        if "failed" not in figures:
            figures["cpu_ratio"] = ratios(figures, ours)
    print(
        json.dumps(
            {
                "machine": machine,
                "photos": len(many.photographs(options.photos)),
                "images": [options.small, options.large],
                "imagesieve": {"version": __version__, **ours},
                "peers": theirs,
            }
        )
    )
    return 1 if any("failed" in reading for reading in ours.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
