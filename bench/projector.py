"""The projector against its peers: ratios of medians, every peer in turn in each round, one process each.

    make bench-peers        # once: itk-rtk and nanodrr into .venv-bench; plastimatch is a Debian package
    python bench/projector.py [--cases bc] [--poses 1] [--rounds 3] [--threads 2]

Cases: a 128³ to 128², b 256³ to 256², c 256 x 512 x 512 to 512²; a torso of 360 mm, cone beam, 1020 mm to the panel and
700 to the axis, poses about the body's axis ("rectified") and tilted by 20 degrees to the head. "both" is the
projection and the gradient to the volume. A turn takes one call or, where calls are short, as many as fill 0.2 s, and
counts their median. plastimatch counts its own time without reading the file, and has no
gradient. The floor is reading the volume once. Memory is how far the peak of a process grows over what it held after
a first call on a small case, which compiles. A goal that is not met is printed as not met; a peer that is not
installed is named.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TO_PANEL, TO_AXIS, PANEL, BOX = 1020.0, 700.0, 512.0, 360.0  # mm
CASES = {"a": ((128, 128, 128), 128), "b": ((256, 256, 256), 256), "c": ((256, 512, 512), 512)}  # z y x, side
PEERS_PYTHON = Path(__file__).parents[1] / ".venv-bench" / "bin" / "python"

# forward or both, pose, against, at least this many times faster; at least this many without a C++ kernel, as here
GOALS = [
    ("forward", "rectified", "nanodrr", 40, 15),
    ("forward", "rectified", "rtk", 3, 1.2),
    ("forward", "rectified", "plastimatch", 3, 1.2),
    ("forward", "tilted", "rtk", 2.5, 1.2),
    ("both", "rectified", "nanodrr", 25, 25),
    ("both", "rectified", "rtk", 3, 3),
    ("both", "tilted", "nanodrr", 25, 25),
    ("both", "tilted", "rtk", 3, 3),
]
TURN = 0.2  # seconds: a peer's turn is so many calls, so that a core asleep does not count as a slow projector
FLOOR_GOALS = (4, 15)  # case c: at most this many times the floor; without a C++ kernel


def torso(case: str) -> np.ndarray:
    """mu (1/mm), z y x: a body, two lungs, a spine."""
    axes = [(np.arange(n) + 0.5) / n * BOX - BOX / 2 for n in CASES[case][0]]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    mu = np.zeros(CASES[case][0], np.float32)
    for cx, cy, ax, ay, az, value in [
        (0, 0, 160, 105, 150, 0.02),
        (-70, 0, 55, 75, 110, -0.015),
        (70, 0, 55, 75, 110, -0.015),
        (0, 70, 18, 18, 145, 0.02),
    ]:
        mu += value * (((x - cx) / ax) ** 2 + ((y - cy) / ay) ** 2 + (z / az) ** 2 < 1)
    return mu


def poses(count: int, tilt: float):
    """Source, panel centre, and the directions of columns and rows, (count, 3) each; x y z, centred, mm."""
    angles = np.radians(10 + 22.5 * np.arange(count))
    c, s, zero = np.cos(angles), np.sin(angles), np.zeros(count)
    ct, st = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    forward = np.stack([-s * ct, c * ct, zero + st], -1)
    columns = np.stack([c, s, zero], -1)
    return -TO_AXIS * forward, (TO_PANEL - TO_AXIS) * forward, columns, np.cross(columns, forward)


class Raylift:
    """This project."""

    def __init__(self, case, mu, count, tilt):
        import torch

        from raylift.projector import LineIntegral
        from raylift.types import ConeBeam, Grid

        (nz, ny, nx), side = CASES[case]
        spacing = np.array([BOX / nz, BOX / ny, BOX / nx])
        affine = np.eye(4)
        affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array([nz, ny, nx]) - 1) / 2)
        beams = [
            ConeBeam(
                source_mm=tuple(s),
                detector_centre_mm=tuple(d),
                column_dir=tuple(u),
                row_dir=tuple(v),
                pixels=(side, side),
                pixel_mm=(PANEL / side,) * 2,
            )
            for s, d, u, v in zip(*poses(count, tilt), strict=True)
        ]
        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
        self.operator, self.mu = LineIntegral(Grid((nz, ny, nx), affine), beams), torch.from_numpy(mu)

    def forward(self):
        return self.operator(self.mu).numpy()

    def both(self, xrays):
        import torch

        mu = self.mu.detach().requires_grad_()
        self.operator(mu).backward(torch.from_numpy(xrays))


class Nanodrr:
    """nanodrr's public `render`, torch backend, 1.5 samples a voxel."""

    def __init__(self, case, mu, count, tilt):
        import torch
        from nanodrr.camera import make_k_inv
        from nanodrr.data import Subject
        from nanodrr.drr import render

        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
        (nz, ny, nx), self.side = CASES[case]
        size = np.array([nx, ny, nz])
        to_world, to_grid = np.eye(4), np.eye(4)
        to_world[:3, :3], to_world[:3, 3] = np.diag(BOX / size), -(size - 1) / 2 * BOX / size
        to_grid[:3, :3], to_grid[:3, 3] = np.diag(2 / size), 1 / size - 1
        to_world, to_grid = (torch.tensor(m, dtype=torch.float32) for m in (to_world, to_grid))
        nothing = torch.zeros(1, 1, 2, 2, 2)
        self.subject = Subject(
            nothing, nothing, to_world, to_world.inverse(), to_grid, torch.zeros(3), max_label=0, convert_to_mu=False
        )
        pitch = PANEL / self.side
        self.inverse_k = make_k_inv(TO_PANEL, pitch, pitch, 0.0, 0.0, self.side, self.side)
        source, centre, columns, rows = poses(count, tilt)
        matrices = np.zeros((count, 4, 4))
        matrices[:, :3] = np.stack([columns, rows, (centre - source) / TO_PANEL, source], -1)
        matrices[:, 3, 3] = 1
        self.poses, self.mu = torch.tensor(matrices, dtype=torch.float32), torch.from_numpy(mu)
        self.samples, self.at_once = int(1.5 * self.side), 1 if case == "c" else 8  # case c: 8 would need 20 GB
        self.render, self.to_panel, self.torch = render, torch.tensor([TO_PANEL]), torch

    def _part(self, mu, i):
        self.subject._buffers["_image_hu"] = mu[None, None]
        part = self.poses[i : i + self.at_once]
        return self.render(
            self.subject,
            self.inverse_k,
            part,
            self.to_panel,
            self.side,
            self.side,
            n_samples=self.samples,
            backend="torch",
        )

    def forward(self):
        with self.torch.no_grad():
            parts = [self._part(self.mu, i) for i in range(0, len(self.poses), self.at_once)]
        return self.torch.cat(parts)[:, 0].numpy()

    def both(self, xrays):
        mu, xrays = self.mu.detach().requires_grad_(), self.torch.from_numpy(xrays)
        for i in range(0, len(self.poses), self.at_once):
            self._part(mu, i).backward(xrays[i : i + self.at_once, None])


class RTK:
    """itk-rtk's Joseph projection and its exact adjoint."""

    def __init__(self, case, mu, count, tilt):
        import itk
        from itk import RTK as rtk

        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(int(os.environ["BENCH_THREADS"]))
        self.itk, self.rtk, self.kind = itk, rtk, itk.Image[itk.F, 3]
        shape, side = CASES[case]
        self.spacing, self.pitch = [BOX / n for n in shape[::-1]], [PANEL / side, PANEL / side, 1.0]
        self.geometry = rtk.ThreeDCircularProjectionGeometry.New()
        point, vector = itk.Point[itk.D, 3], itk.Vector[itk.D, 3]
        for s, d, u, v in zip(*poses(count, tilt), strict=True):
            self.geometry.AddProjection(point(s.tolist()), point(d.tolist()), vector(u.tolist()), vector(v.tolist()))
        self.mu, self.empty = mu, np.zeros((count, side, side), np.float32)
        self.filter = self._filter(rtk.JosephForwardProjectionImageFilter, self._stack(self.empty), self._volume(mu))

    def _image(self, values, spacing, origin):
        image = self.itk.image_from_array(np.ascontiguousarray(values))
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        return image

    def _volume(self, values):
        size = values.shape[::-1]
        return self._image(values, self.spacing, [-(n - 1) / 2 * s for n, s in zip(size, self.spacing, strict=True)])

    def _stack(self, values):
        edge = -(values.shape[-1] - 1) / 2 * self.pitch[0]
        return self._image(values, self.pitch, [edge, edge, 0.0])

    def _filter(self, name, into, source):
        run = name[self.kind, self.kind].New()
        run.SetInput(0, into)
        run.SetInput(1, source)
        run.SetGeometry(self.geometry)
        run.InPlaceOff()
        return run

    def _run(self, run):
        run.Modified()
        run.Update()
        return self.itk.array_view_from_image(run.GetOutput())

    def forward(self):
        return self._run(self.filter)

    def both(self, xrays):
        self.forward()
        if not hasattr(self, "back"):
            volume = self._volume(np.zeros_like(self.mu))
            self.back = self._filter(self.rtk.JosephBackProjectionImageFilter, volume, self._stack(xrays))
        self._run(self.back)


class Plastimatch:
    """Debian's `plastimatch drr -i exact`; `seconds` is its own count."""

    both = None

    def __init__(self, case, mu, count, tilt):
        shape, self.side = CASES[case]
        self.folder, self.poses = tempfile.TemporaryDirectory(), poses(count, tilt)
        size = np.array(shape[::-1])
        spacing, origin = BOX / size, -(size - 1) / 2 * BOX / size
        words = [" ".join(f"{x:.9g}" for x in row) for row in (origin, spacing, size)]
        header = (
            "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            f"TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = {words[0]}\nElementSpacing = {words[1]}\n"
            f"DimSize = {words[2]}\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
        )
        self.path = Path(self.folder.name) / "v.mha"
        self.path.write_bytes(header.encode() + mu.tobytes())
        subprocess.run(["plastimatch", "--version"], capture_output=True, check=True)

    def forward(self):
        self.seconds, pictures = 0.0, []
        environment = os.environ | {"OMP_NUM_THREADS": os.environ["BENCH_THREADS"]}
        for source, _, _, down in zip(*self.poses, strict=True):
            normal, up = (" ".join(f"{x:.12g}" for x in v) for v in (source / np.linalg.norm(source), -down))
            options = ["-i", "exact", "-n", normal, "--vup", up, "-o", "0 0 0", "--sad", str(TO_AXIS)]
            options += ["--sid", str(TO_PANEL), "-r", f"{self.side} {self.side}", "-z", f"{PANEL} {PANEL}"]
            options += ["-P", "none", "-t", "pfm", "-O", f"{self.folder.name}/o", str(self.path)]
            done = subprocess.run(
                ["plastimatch", "drr", *options], capture_output=True, text=True, check=True, env=environment
            )
            self.seconds += float(re.search(r"Total time: ([0-9.e+-]+)", done.stdout + done.stderr).group(1))
            picture = next(Path(self.folder.name).glob("*.pfm"))
            values = np.frombuffer(picture.read_bytes()[-4 * self.side**2 :], "<f4")
            pictures.append(values.reshape(self.side, self.side)[:, ::-1] * 10)
            picture.unlink()
        return np.stack(pictures)


class Floor:
    """Reading the volume once, in as many threads."""

    both = None

    def __init__(self, case, mu, count, tilt):
        import torch

        torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
        self.mu, self.count = torch.from_numpy(mu), count

    def forward(self):
        for _ in range(self.count):
            total = self.mu.sum()
        return total.reshape(1).numpy()


PEERS = {"raylift": Raylift, "floor": Floor, "rtk": RTK, "plastimatch": Plastimatch, "nanodrr": Nanodrr}
OWN_PYTHON = ("raylift", "floor")


def pictures(case: str, count: int) -> np.ndarray:
    """X-rays to project back."""
    return np.random.default_rng(0).random((count, CASES[case][1], CASES[case][1]), dtype=np.float32)


def memory_mb(kind: str) -> float:
    """What this process holds (VmRSS), or the most it has held (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(kind + r":\s+(\d+)", status).group(1)) / 1024


def forget_peak() -> float:
    """Begin to count the peak anew, from what the process holds now, which comes back."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mb("VmRSS")


def work(name: str, case: str, count: int, tilt: float) -> None:
    """One peer's process: does what each line of its input says and answers in JSON."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print

    def say(**words):
        answer.write(json.dumps(words) + "\n")
        answer.flush()

    try:
        small = PEERS[name]("a", torso("a"), 1, tilt)
    except (ImportError, OSError) as problem:
        where = "Debian's plastimatch" if name == "plastimatch" else "make bench-peers"
        say(error=f"not installed: {where} ({problem})"[:200])
        return
    small.forward()
    if small.both:
        small.both(pictures("a", 1))
    peer, xrays = PEERS[name](case, torso(case), count, tilt), pictures(case, count)
    base = forget_peak()
    peer.forward()
    say(ready=True, both=peer.both is not None, base=base)
    for line in sys.stdin:
        seconds, begin = [], time.perf_counter()
        while not seconds or time.perf_counter() - begin < TURN:
            start = time.perf_counter()
            found = peer.forward() if line.strip() == "forward" else peer.both(xrays)
            seconds.append(getattr(peer, "seconds", time.perf_counter() - start))
        mean = float(np.mean(found)) if found is not None else None
        say(seconds=statistics.median(seconds), mean=mean, peak=memory_mb("VmHWM"))


def start(name: str, case: str, count: int, tilt: float, threads: int):
    """The process of one peer and its first words; None for the process where it is not installed."""
    python = sys.executable if name in OWN_PYTHON or not PEERS_PYTHON.exists() else str(PEERS_PYTHON)
    environment = os.environ | {"BENCH_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        [python, __file__, "--worker", name, case, str(count), str(tilt)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    first = process.stdout.readline()
    words = json.loads(first) if first else {"error": "it died"}
    return (None if "error" in words else process), words


def ask(process, job: str) -> dict:
    """One run of one peer."""
    process.stdin.write(job + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def compare(case: str, count: int, tilt: float, names: list[str], rounds: int, threads: int) -> dict:
    """Times of all peers, in turn in each round: {(peer, job): [seconds]}; prints the table."""
    running, times, extras = {}, {}, {}
    pose = "tilted" if tilt else "rectified"
    for name in names:
        process, words = start(name, case, count, tilt, threads)
        if process is None:
            print(f"{case} {count} {pose:9s} {name:12s} {words['error']}")
        else:
            running[name] = (process, words)
    for job in ("forward", "both"):
        for _ in range(rounds):
            for name, (process, words) in running.items():
                if job == "forward" or words["both"]:
                    found = ask(process, job)
                    times.setdefault((name, job), []).append(found["seconds"])
                    extras[name, job] = found["peak"] - words["base"]
    ratios = {}
    for (name, job), seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times["raylift", job], strict=True))
        ratios[job, pose, name] = ratio
        ms, extra = 1000 * statistics.median(seconds), extras[name, job]
        print(f"{case} {count} {pose:9s} {name:12s} {job:8s} {ms:10.1f} ms   x {ratio:7.2f}   +{extra:6.0f} MB")
    copy_and_images = (math.prod(CASES[case][0]) + count * CASES[case][1] ** 2) * 4 / 2**20
    print(
        f"   raylift's memory over the volume: "
        f"{extras['raylift', 'forward'] / copy_and_images:.2f} of a copy and images"
    )
    for process, _ in running.values():
        process.stdin.close()
        process.wait(20)
    return ratios


def judge(case: str, ratios: dict) -> None:
    """Each goal that this case has, met or not met."""
    for job, pose, peer, *goals in GOALS:
        ratio = ratios.get((job, pose, peer))
        if ratio is not None and (case in "bc" or job == "both"):
            print(f"   {job} {pose}: {ratio:.1f} times {peer}, {_verdict([ratio >= goal for goal in goals], goals)}")
    floor = ratios.get(("forward", "rectified", "floor"))
    if case == "c" and floor:
        times = 1 / floor
        print(f"   {times:.1f} times the floor, {_verdict([times <= goal for goal in FLOOR_GOALS], FLOOR_GOALS)}")


def _verdict(met: list[bool], goals) -> str:
    """Of a goal, and of the one without a C++ kernel."""
    word = {True: "met", False: "NOT MET"}
    alone = "" if met[0] or goals[0] == goals[1] else f"; {goals[1]} without a C++ kernel: {word[met[1]]}"
    return f"goal {goals[0]}: {word[met[0]]}{alone}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", default="bc")
    parser.add_argument("--poses", type=int, nargs="+", default=[1])
    parser.add_argument("--tilts", type=float, nargs="+", default=[0, 20])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, case, count, tilt = options.worker
        work(name, case, int(count), float(tilt))
        return
    print(f"{options.threads} threads, {options.rounds} rounds; x: times raylift's time in the same round")
    for case in options.cases:
        for count in options.poses:
            for tilt in options.tilts:
                judge(case, compare(case, count, tilt, options.peers, options.rounds, options.threads))


if __name__ == "__main__":
    main()
