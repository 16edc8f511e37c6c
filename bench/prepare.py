"""Where `raylift prepare --profile chest` spends its time, by stage, and its cases a minute on one core and two.

    python bench/prepare.py [CTS ...] [--rounds 3] [--spacing 2.5] [--phantoms 4]

CTS are files or folders as `raylift prepare` takes them; without any, phantoms are drawn first. Each count is taken in
a process of its own that may use that many cores and runs as many jobs, after a first round that loads and compiles
everything; each round prepares all CTs anew, and the quickest one counts. The stages are those of the one job, in CPU
seconds, which say what a case costs whoever else was working on the machine; cases a minute are by the clock. A stage
called by another counts as the outer one, and "the rest" is records, rounding and what no stage names. Rows are
appended to history.csv.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from time import perf_counter, process_time
from unittest.mock import patch

JOBS = (1, 2)
BOUND = ("read", "projection")  # what the time should go to


def stages() -> dict[str, list[tuple[object, str]]]:
    """Each stage's functions, as (where their name is looked up, the name)."""
    from raylift import io
    from raylift.data.prepare import body, check, crop, gates, resample, steps, views
    from raylift.io.unread import UnreadCT

    looked_at = ("repeated_slices", "missing_slices", "upside_down", "cut_share", "metal_ml")
    return {
        "read": [(io, "survey_cts"), (io, "patient_of"), (UnreadCT, "read")],
        "gates": [
            *((gates, name) for name in looked_at),
            *((check, "not_a_ct"), (steps, "content_hash"), (steps, "likeness")),
        ],
        "upright resampling": [(resample, "upright")],
        "body": [
            *((body, name) for name in ("coarse", "body_mask", "lung_mask", "without_table")),
            (check, "back_to_front"),
        ],
        "cube": [(crop, "cube_grid"), (resample, "resampled"), (resample, "inside"), (resample, "cut")],
        "projection": [(views, name) for name in ("beams_about", "crossed", "before_panels", "line_integrals")],
        "write": [(steps, "write_case")],
    }


class Watch:
    """CPU seconds by stage, of the outermost call only."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.inside = False

    def around(self, stage: str, work):
        """`work`, counted."""
        self.seconds.setdefault(stage, 0.0)

        def counted(*args, **options):
            if self.inside:
                return work(*args, **options)
            self.inside, start = True, process_time()
            try:
                return work(*args, **options)
            finally:
                self.seconds[stage] += process_time() - start
                self.inside = False

        return counted


@contextmanager
def watched() -> Iterator[Watch]:
    """A watch on every stage while it is open."""
    watch = Watch()
    with ExitStack() as stack:
        for stage, functions in stages().items():
            for where, name in functions:
                stack.enter_context(patch.object(where, name, watch.around(stage, getattr(where, name))))
        yield watch


def cpu_seconds() -> float:
    """What this process and its workers have taken so far."""
    import psutil

    own = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (own, *own.children(recursive=True)))


def work(jobs: int, rounds: int, sources: Sequence[str]) -> None:
    """One count, in its own process: says in JSON how many cases, how long, and the stages of a single job."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:jobs])
    from raylift.data.prepare import prepare
    from raylift.data.prepare.find import find_sources

    found = [source.path for source in find_sources(sources)]
    with tempfile.TemporaryDirectory() as folder, watched() as watch:
        prepare(found, f"{folder}/first", jobs=jobs)
        told = []
        for k in range(rounds):
            watch.seconds = dict.fromkeys(watch.seconds, 0.0)
            start, cpu = perf_counter(), cpu_seconds()
            report = prepare(found, f"{folder}/{k}", jobs=jobs)
            seconds = {"seconds": perf_counter() - start, "cpu": cpu_seconds() - cpu}
            told.append({**seconds, "cases": len(report.prepared), "stages": watch.seconds})
            rmtree(f"{folder}/{k}")
    best = min(told, key=lambda one: one["cpu"] if jobs == 1 else one["seconds"])
    print(json.dumps({**best, "seconds": min(one["seconds"] for one in told), "left": report.rejected + report.failed}))


def counted(jobs: int, rounds: int, sources: Sequence[str]) -> dict:
    """What the process for this many jobs says."""
    words = [sys.executable, __file__, *sources, "--worker", str(jobs), "--rounds", str(rounds)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_stages(told: dict) -> None:
    """A row for each stage, and what share reading and projection have."""
    from measure import print_head, print_row

    cases, total = max(told["cases"], 1), told["cpu"]
    rest = total - sum(told["stages"].values())
    print_head(["stage", "CPU s a case", "share"])
    for stage, seconds in {**told["stages"], "the rest": rest}.items():
        print_row([stage, f"{seconds / cases:.2f}", f"{seconds / total:.0%}"])
    print_row(["all", f"{total / cases:.2f}", "100%"])
    share = {stage: seconds / total for stage, seconds in told["stages"].items()}
    first = max(share, key=share.__getitem__)
    bound = sum(share[stage] for stage in BOUND)
    print(f"\nReading and projection: {bound:.0%} of the time; the longest stage is {first}, {share[first]:.0%}.\n")


def measure_all(sources: Sequence[str], rounds: int, kind: str, history: Path) -> None:
    """Both tables, and their rows in the history."""
    from measure import append, print_head, print_row

    told = {jobs: counted(jobs, rounds, sources) for jobs in JOBS}
    for name, reason in told[1]["left"]:
        print(f"no case came of {name}: {reason}")
    print_stages(told[1])
    print_head(["jobs, cores", "cases", "s", "CPU s", "cases a minute", "times one job"])
    rate = {jobs: each["cases"] / each["seconds"] for jobs, each in told.items()}
    for jobs, each in told.items():
        faster = f"{rate[jobs] / rate[1]:.2f}" if rate[1] else "–"
        seconds = [f"{each[clock]:.1f}" for clock in ("seconds", "cpu")]
        print_row([jobs, each["cases"], *seconds, f"{60 * rate[jobs]:.1f}", faster])
    rows = [(f"jobs={jobs}", 1 / r) for jobs, r in rate.items() if r]
    rows += [(f"jobs=1, {stage}, CPU", s / max(told[1]["cases"], 1)) for stage, s in told[1]["stages"].items()]
    append(history, [("prepare chest", 128, f"a case of {kind}, {name}", seconds, None) for name, seconds in rows])


def main(words: Sequence[str] | None = None) -> None:
    """Print the tables, of the CTs that are given or of phantoms."""
    from measure import HISTORY, machine

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cts", nargs="*", metavar="CTS", help="CT files or folders; default: phantoms")
    parser.add_argument("--phantoms", type=int, default=4, help="how many are drawn where no CT is given")
    parser.add_argument("--rounds", type=int, default=3, help="of which the quickest counts")
    parser.add_argument("--spacing", type=float, default=2.5, help="of the phantoms' voxels, mm")
    parser.add_argument("--history", type=Path, default=HISTORY)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.worker:
        work(options.worker, options.rounds, options.cts)
        return
    with tempfile.TemporaryDirectory() as folder:
        sources, kind = options.cts, "given CTs"
        if not sources:
            from raylift.data.phantom import save_phantoms

            kind = f"{options.phantoms} phantoms of {options.spacing:g} mm"
            made = save_phantoms(options.phantoms, folder, spacing=options.spacing)
            sources = [str(phantom / "ct.nii.gz") for phantom in made]
        print(f"{machine()}; profile chest, {kind}\n", flush=True)
        measure_all(sources, options.rounds, kind, options.history)


if __name__ == "__main__":
    main()
