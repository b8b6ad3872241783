"""Every measured table of README and docs: the commands behind it, its numbers, its place on the page.

    python docs/measure.py                   what there is, and when it was measured
    python docs/measure.py minute classic    measure these, or `all`; then fill the pages
    python docs/measure.py --pages           fill the pages from the files alone

The commands of a measurement run one after the other in a folder of its own, runs/measured/COMMIT/NAME. A command that
has ended well leaves its output there and does not run again, so an interrupted measurement goes on. Then
docs/measured/NAME.json has the numbers, with commands, seeds, commit, machine and date. A page shows a view of them
between `<!-- VIEW -->` and `<!-- end -->`.
"""

import csv
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from itertools import groupby
from pathlib import Path
from textwrap import indent, wrap
from typing import NamedTuple

import numpy

from battleship_grpo.algorithms import RECIPES
from battleship_grpo.runs.world import number_of_cores

TOP = Path(__file__).resolve().parent.parent
FILES = TOP / "docs" / "measured"
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 108  # of a line of commands on a page


class Measurement(NamedTuple):
    commands: tuple  # of a shell; one with $seed in it runs for each seed
    rows: Callable  # of the folder in which they ran: a list of dicts, or of lines of text
    seeds: tuple = (0,)
    pictures: tuple = ()  # commands that draw from what is there then


class View(NamedTuple):
    """A table on a page."""

    measurement: str
    cells: dict  # heading → the cell's text, from a row; empty where the rows are text
    rows: Callable = list  # of all rows, those that are shown, in their order
    commands: bool = True  # whether they stand above it


# -------------------------------------------------------------------- what commands leave


def summary(run):
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def named_runs(labels, folder):
    """A row for each run folder, its name → what it is."""
    return [{"what": label} | summary(folder / "runs" / name) for name, label in labels.items()]


def printed(command, folder):
    """The text that a command printed; commands are numbered from 0."""
    return (folder / f"{command}.out").read_text(encoding="utf-8")


def lines(commands, folder):
    """Those that some commands printed."""
    return [line.rstrip() for command in commands for line in printed(command, folder).splitlines()]


def evaluated(labels, command, folder):
    """A row for each entrant of `evaluate --json`, the best first."""
    rows = sorted(json.loads(printed(command, folder)), key=lambda row: row["mean_shots"])
    return [{"what": labels[row["name"]]} | row for row in rows]


def compared(folder):
    """The table of `compare`."""
    with open(folder / "runs" / "compare" / "compare.csv", newline="", encoding="utf-8") as file:
        return [{name: number(text) for name, text in row.items()} for row in csv.DictReader(file)]


def number(text):
    try:
        return float(text)
    except ValueError:
        return text


# -------------------------------------------------------------------- the measurements


TRAIN = "python -m battleship_grpo.train"
STAGES = {"minute": "a minute of GRPO", "grpo": "15 s of pretraining, then 45 s of GRPO",
          "hindsight": "15 s of pretraining, then 45 s of `grpo_hindsight` (GRPO less luck)"}
FIVE = {"predicts": "60 s of pretraining", "decides": "and then 240 s of `grpo_hindsight`"}
PLAYERS = {"bayes": "`bayes`: the cell most likely to hold a ship by the exact posterior over all 9,024 placements",
           "density": "`density`: the same by particles, for boards with too many placements to list",
           "hunt_target": "`hunt_target`: the classic heuristic", "random": "`random`"}
CLASSIC = {"alone": "`grpo` from nothing, 5 minutes", "hindsight": "`grpo_hindsight` from nothing, 5 minutes"}
DECIDES = {"predicts": "pretraining, 5 minutes", "decides": "and then `grpo_hindsight`, 5 minutes"}
R1 = {"minute": "R1-Zero: a minute of `grpo`", "sft": "imitation of `hunt_target`",
      "r1": "R1: and then `grpo_hindsight`", "small": "distillation of R1",
      "sft-bayes": "imitation of `bayes`", "best": "and then `grpo_process`"}
PAIRS = {"hunt_target": "`hunt_target`, the teacher", "runs/sft": "imitation of its games",
         "runs/offline": "DPO on the file, 60 iterations", "runs/longer": "DPO on the file, 300 iterations",
         "runs/online": "DPO on pairs that it plays itself, 60 iterations",
         "runs/alone": "DPO from nothing, on the teacher's own pairs, 300 iterations"}


def over_seeds(labels, seeds, folder):
    """A row for each kind of run: greedy play from each seed, and the mean."""
    rows = []
    for name, label in labels.items():
        found = [summary(folder / "runs" / f"{name}{seed}")["greedy"]["mean_shots"] for seed in seeds]
        rows.append({"what": label, "mean_shots": sum(found) / len(found), "of_seeds": found})
    return rows


def minute(folder):
    """The stages over the seeds, and the baselines; and how far each is from random to exact Bayesian play."""
    rows = evaluated(PLAYERS, 4, folder)
    bayes, random = rows[0]["mean_shots"], rows[-1]["mean_shots"]
    rows += over_seeds(STAGES, (0, 1, 2), folder)
    return [row | {"gap_closed": (random - row["mean_shots"]) / (random - bayes)} for row in rows]


MEASUREMENTS = {
    "minute": Measurement((
        f"{TRAIN} --seconds 60 --seed $seed --output-dir runs/minute$seed",
        f"{TRAIN} --algorithm pretrain --seconds 15 --seed $seed --output-dir runs/predicts$seed",
        f"{TRAIN} --algorithm grpo_hindsight --init runs/predicts$seed --seconds 45 --seed $seed "
        "--output-dir runs/hindsight$seed",
        f"{TRAIN} --init runs/predicts$seed --seconds 45 --seed $seed --output-dir runs/grpo$seed",
        "python -m battleship_grpo.evaluate random hunt_target bayes density --json"), minute, (0, 1, 2), (
            "python -m battleship_grpo.play runs/minute0 --board 3 --save docs/images/game.gif",
            "python docs/../notebooks/pictures.py runs/minute0 docs/images/train.svg")),
    "five": Measurement((
        f"{TRAIN} --algorithm pretrain --seconds 60 --seed $seed --output-dir runs/predicts$seed",
        f"{TRAIN} --algorithm grpo_hindsight --init runs/predicts$seed --seconds 240 --seed $seed "
        "--output-dir runs/decides$seed"), partial(over_seeds, FIVE, (0, 1)), (0, 1)),
    "algorithms": Measurement(("python -m battleship_grpo.compare all --seeds 3 --seconds 30",), compared, (0, 1, 2)),
    "settings": Measurement((
        "python -m battleship_grpo.compare grpo grpo:beta=0 grpo:epsilon_high=0.2 --seeds 4 --iterations 1800",),
        compared, (0, 1, 2, 3)),
    "variates": Measurement((
        f"{TRAIN} --algorithm pretrain --seconds 15 --output-dir runs/predicts",
        "python -m battleship_grpo.compare grpo_hindsight:init=runs/predicts "
        "grpo_hindsight:init=runs/predicts:advantage_baseline=step --seeds 4 --seconds 20"), compared, (0, 1, 2, 3)),
    "r1": Measurement((
        f"{TRAIN} --seconds 60 --output-dir runs/minute",
        f"{TRAIN} --algorithm sft --teacher hunt_target --lmbda 0 --seconds 20 --output-dir runs/sft",
        f"{TRAIN} --algorithm grpo_hindsight --init runs/sft --learning-rate 4e-3 --seconds 60 --output-dir runs/r1",
        f"{TRAIN} --algorithm distill --teacher runs/r1 --hidden-sizes 64 --seconds 60 --output-dir runs/small",
        f"{TRAIN} --algorithm sft --seconds 60 --output-dir runs/sft-bayes",
        f"{TRAIN} --algorithm grpo_process --init runs/sft-bayes --beta 0 --entropy-coef 0.002 --learning-rate 5e-3 "
        "--seconds 235 --output-dir runs/best"), partial(named_runs, R1)),
    "preferences": Measurement((
        f"{TRAIN} --algorithm sft --teacher hunt_target --lmbda 0 --seconds 20 --output-dir runs/sft",
        "python -m battleship_grpo.preferences runs/sft --output preferences.npz",
        f"{TRAIN} --algorithm dpo --init runs/sft --preferences preferences.npz --beta 0.5 --learning-rate 3e-4 "
        "--iterations 60 --output-dir runs/offline",
        f"{TRAIN} --algorithm dpo --init runs/sft --preferences preferences.npz --beta 0.5 --learning-rate 3e-4 "
        "--iterations 300 --output-dir runs/longer",
        f"{TRAIN} --algorithm dpo --init runs/sft --iterations 60 --output-dir runs/online",
        "python -m battleship_grpo.preferences hunt_target --output others.npz",
        f"{TRAIN} --algorithm dpo --preferences others.npz --iterations 300 --output-dir runs/alone",
        "python -m battleship_grpo.evaluate runs/sft runs/offline runs/longer runs/online runs/alone hunt_target "
        "--json"), partial(evaluated, PAIRS, 7)),
    "classic": Measurement((
        f"{TRAIN} --rules classic --seconds 300 --output-dir runs/alone",
        f"{TRAIN} --rules classic --algorithm grpo_hindsight --seconds 300 --output-dir runs/hindsight"),
        partial(named_runs, CLASSIC)),
    "decides": Measurement((
        f"{TRAIN} --rules classic --algorithm pretrain --seconds 300 --output-dir runs/predicts",
        f"{TRAIN} --rules classic --algorithm grpo_hindsight --init runs/predicts --seconds 300 --learning-rate 3e-4 "
        "--output-dir runs/decides"), partial(named_runs, DECIDES)),
    "limits": Measurement((
        "python -m battleship_grpo.compare grpo_hindsight grpo grpo_process:advantage_baseline=step ppo "
        "grpo_hindsight:num_generations=16:num_boards=16 grpo_hindsight:temperature=0.5 --rules classic --seeds 3 "
        "--iterations 60",), compared, (0, 1, 2)),
    "benchmark": Measurement(("python -m battleship_grpo.benchmark",), partial(lines, (0,))),
    "frameworks": Measurement(("python docs/frameworks.py",), partial(lines, (0,))),
    "noise": Measurement((
        f"{TRAIN} --rules classic --algorithm pretrain --seconds 120 --output-dir runs/predicts",
        "python docs/noise.py nothing 1", "python docs/noise.py runs/predicts 0.05",
        "python docs/noise.py runs/predicts 0.2"), partial(lines, (1, 2, 3))),
    "scale": Measurement(("mpiexec -n 2 python docs/scale.py docs/images/scale.png",), partial(lines, (0,))),
}


# -------------------------------------------------------------------- their views


def mean_shots(row):
    """With the 95% interval where boards were drawn at random, or of each seed."""
    if "of_seeds" in row:
        return ", ".join(f"{one:.2f}" for one in row["of_seeds"])
    return f"{row['mean_shots']:.3f}" if row["exact"] else f"{row['mean_shots']:.2f} ± {row['ci95']:.2f}"


def of(name, form="", factor=1):
    """A cell with one number, or text."""
    return lambda row: format(row[name] * factor, form) if isinstance(row[name], float) else str(row[name])


def difference(row):
    """To the policy that the run started from."""
    before = row["before"]
    return f"{before['difference']:+.2f} ± {before['difference_ci95']:.2f}" if before else ""


WHAT = {"": of("what")}
GREEDY = {"mean shots, greedy": lambda row: mean_shots(row["greedy"])}
SAMPLED = {"sampled": lambda row: mean_shots(row["sampled"])}
PLAYED = {"shots played": lambda row: f"{row['shots'] / 1e6:.1f} M"}
ENTRANT = {"algorithm": of("entrant"), "greedy": of("greedy_mean_shots", ".3f"),
           "± seeds": of("greedy_deviation", ".3f")}
P_VALUE = {"p-value": lambda row: "<0.01" if row["p_value"] and row["p_value"] < 0.01 else of("p_value", ".2f")(row)}

PLAYER = WHAT | {"mean shots": mean_shots, "gap closed": of("gap_closed", ".1%")}

VIEWS = {
    "players": View("minute", PLAYER, partial(sorted, key=lambda row: row["mean_shots"]), commands=False),
    "minute": View("minute", PLAYER, lambda rows: rows[4:]),
    "five": View("five", WHAT | {"mean shots": mean_shots}),
    "algorithms": View("algorithms", ENTRANT | P_VALUE | {
        "sampled": of("sampled_mean_shots", ".2f"), "gap closed": of("gap_closed", ".1%"),
        "Mshots to 18": lambda row: of("shots_to_threshold", ".2f", 1e-6)(row).replace("inf", "never"),
        "drawdown": of("drawdown", ".2f"), "gradient noise": of("gradient_variance", ".2f"),
        "networks": of("networks", ".0f"), "parameters": of("parameters", ",.0f"),
        "ms per update": of("seconds_per_update", ".1f", 1e3), "MB": of("peak_memory_mb", ".0f")}),
    "settings": View("settings", ENTRANT | P_VALUE),
    "variates": View("variates", ENTRANT | P_VALUE | {"gradient noise": of("gradient_variance", ".0f"),
                                                      "shots a second": of("shots_per_second", ",.0f")}),
    "r1": View("r1", WHAT | GREEDY | PLAYED, lambda rows: rows[:4]),
    "r1-best": View("r1", WHAT | GREEDY | PLAYED, lambda rows: rows[4:], commands=False),
    "preferences": View("preferences", WHAT | {"mean shots, greedy": mean_shots}),
    "classic": View("classic", WHAT | PLAYED | GREEDY | SAMPLED),
    "decides": View("decides", WHAT | PLAYED | GREEDY | SAMPLED | {"greedy, difference": difference}),
    "ten": View("classic", WHAT | GREEDY | SAMPLED, lambda rows: rows[:1], commands=False),
    "ten-decides": View("decides", WHAT | GREEDY | SAMPLED, commands=False),
    "limits": View("limits", ENTRANT | P_VALUE | {
        "sampled": of("sampled_mean_shots", ".2f"), "gradient noise": of("gradient_variance", ".3f"),
        "shots a second": of("shots_per_second", ",.0f")}),
    "benchmark": View("benchmark", {}),
    "frameworks": View("frameworks", {}),
    "noise": View("noise", {}),
    "scale": View("scale", {}),
}


def block(name):
    """What stands between the markers of a view: commands, table, where and when it was measured."""
    if name == "recipes":
        return table({"algorithm": of("name"), "idea": of("idea"), "paper": of("paper")},
                     [{"name": f"`{name}`"} | recipe._asdict() for name, recipe in RECIPES.items()], align="---") + "\n"
    view = VIEWS[name]
    file = FILES / f"{view.measurement}.json"
    if not file.exists():
        return f"Not measured yet: `python docs/measure.py {view.measurement}`.\n"
    found = json.loads(file.read_text(encoding="utf-8"))
    shown = indented("\n".join(found["rows"])) if not view.cells else table(view.cells, view.rows(found["rows"]))
    commands = indented("\n".join(as_shown(found["commands"], found["seeds"])))
    by = (f"Measured by `docs/measure.py {view.measurement}` at {found['commit']}, {found['date']}, "
          f"seed{'s' * (len(found['seeds']) > 1)} {', '.join(map(str, found['seeds']))}; {found['machine']}.")
    return "\n\n".join([commands] * view.commands + [shown, by]) + "\n"


def table(cells, rows, align="---:"):
    """Markdown; the first column is text, the others are numbers unless `align` says something else."""
    lines = [cells, ["---", *[align] * (len(cells) - 1)], *([cell(row) for cell in cells.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def indented(text):
    return indent(text.rstrip(), "    ")


def as_shown(commands, seeds):
    """Yields commands as they stand on a page: in a loop where they run for each seed."""
    for seeded, some in groupby(commands, lambda command: "$seed" in command):
        text = "\n".join(" \\\n    ".join(folded(one)) for one in some)
        yield f"for seed in {' '.join(map(str, seeds))}; do\n{indent(text, '    ')}\ndone" if seeded else text


def folded(command):
    """The lines of a command, none of which ends with an option whose value is on the next."""
    together = re.sub(r"(--\S+) (?!-)", "\\1\N{NO-BREAK SPACE}", command)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in wrap(together, WIDTH, break_on_hyphens=False)]


def filled(text):
    """The text of a page, with its tables as they are in the files."""
    return BLOCK.sub(lambda found: f"{found[1]}{block(found[2])}{found[3]}", text)


# -------------------------------------------------------------------- measuring


def measure(name):
    """Run what has not run yet, and write the file. Raises SystemExit where a command fails."""
    measurement, commit = MEASUREMENTS[name], git("rev-parse", "--short", "HEAD")
    folder = TOP / "runs" / "measured" / commit / name
    if git("status", "--porcelain", "battleship_grpo"):
        sys.exit("the package has changes that are not committed: numbers belong to a commit")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "docs").exists():
        (folder / "docs").symlink_to(TOP / "docs")
    for place, command in enumerate(measurement.commands + measurement.pictures):
        for seed in measurement.seeds if "$seed" in command else ("",):
            run(command, folder, f"{place}{f'-{seed}' * bool(str(seed))}", seed)
    found = {"commands": measurement.commands, "seeds": measurement.seeds, "date": str(date.today()),
             "commit": commit, "machine": machine(), "rows": measurement.rows(folder)}
    write(name, found)


def write(name, found):
    """The file of a measurement, each row on a line."""
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in found.pop("rows"))
    head = json.dumps(found, indent=1, ensure_ascii=False).removesuffix("\n}")
    FILES.mkdir(exist_ok=True)
    (FILES / f"{name}.json").write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n', encoding="utf-8")


def run(command, folder, name, seed):
    """One command, unless it has ended well before. What it has printed gets its name then."""
    output, unfinished = folder / f"{name}.out", folder / f"{name}.part"
    if output.exists():
        return
    print(command.replace("$seed", str(seed)), flush=True)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    with open(unfinished, "w", encoding="utf-8") as file:
        done = subprocess.run(command, shell=True, cwd=folder, stdout=file, stdin=subprocess.DEVNULL,
                              env=os.environ | {"PATH": path, "seed": str(seed), "COLUMNS": "100"})
    if done.returncode:
        sys.exit(f"it ended with status {done.returncode}")
    unfinished.rename(output)


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=TOP, capture_output=True, text=True, check=True).stdout.strip()


def machine():
    """Cores, processor, Python and NumPy."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))[1]
    return f"{number_of_cores()} cores of {processor}, Python {platform.python_version()}, NumPy {numpy.__version__}"


def main(names):
    if not names:
        for name in MEASUREMENTS:
            file = FILES / f"{name}.json"
            print(f"{name:12}", json.loads(file.read_text(encoding="utf-8"))["date"] if file.exists() else "never")
        return
    names = {"--pages": [], "all": MEASUREMENTS}.get(names[0], names)
    if unknown := {*names} - MEASUREMENTS.keys():
        sys.exit(f"{', '.join(unknown)}: not one of {', '.join(MEASUREMENTS)}")
    for name in names:
        measure(name)
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
