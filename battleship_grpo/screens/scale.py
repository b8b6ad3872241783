"""What more processes bring, as tables and as a picture."""

import numpy as np
from rich.table import Table

from ..study.scale import ETHERNET, RANKS
from .tables import right


def show_scale(teams, link, models, console):
    """teams, link, models: as `study.scale.study` gives them."""
    table = Table(*right("numbers"), *right(*list(teams)[1:]), title="microseconds of a sum", title_justify="left")
    for length in teams["1 process"][1]:
        table.add_row(f"{length:,}", *(f"{sums[length] * 1e6:,.0f}" for _, sums, _ in list(teams.values())[1:]))
    console.print(table)
    console.print(f"fitted: {link.name}, {link.latency * 1e6:.1f} µs a message, "
                  f"{link.seconds_per_byte * 1e9:.2f} ns a byte; assumed: {ETHERNET.name}\n", highlight=False)

    title = "a step of an untrained policy"
    numbers = right("boards", "collect ms", "learn ms", "shots/s", "model", "efficiency", "model")
    table = Table("case", "team", *numbers, title=title, title_justify="left")
    alone = teams["1 process"][2]
    for model in models:
        for boards in (boards for case, boards in alone if case == model.name):
            for name, (size, _, steps) in teams.items():
                if (model.name, boards) in steps:
                    table.add_row(model.name, name, f"{boards}", *step_cells(model, link, size, boards, steps, alone))
        table.add_section()
    console.print(table)

    title = f"what scale brings: {ETHERNET.name} between ranks"
    numbers = right("parameters", "critical boards", "± s.e.", "batch", "largest speed-up", "ranks", "half efficient")
    table = Table("case", *numbers, title=title, title_justify="left")
    for model in (model for model in models if model.critical):
        best, ranks = largest_speed_up(model, ETHERNET)
        half = max(ranks for ranks in RANKS if model.speed_up(ETHERNET, ranks) >= ranks / 2)
        for i, (after, boards, error) in enumerate(model.critical):
            last = (f"{model.critical_batch:,.0f}", f"{best:,.0f}", f"{ranks:,}", f"{half:,}") if i else ("",) * 4
            table.add_row(f"{model.name}, {after} iterations", f"{max(model.lengths):,}", f"{boards:,.0f}",
                          f"{error:,.0f}", *last)
    console.print(table)


def step_cells(model, link, size, boards, steps, alone):
    """Of one measured step: how long, how fast, how efficient, and what the model says of it."""
    collect, learn, shots = steps[model.name, boards]
    before = sum(alone[model.name, boards][:2]) / alone[model.name, boards][2]  # seconds per shot
    return (f"{collect * 1e3:,.0f}", f"{learn * 1e3:,.0f}", f"{shots / (collect + learn):,.0f}",
            f"{model.throughput(link, size, boards):,.0f}", f"{before * shots / (collect + learn) / size:.0%}",
            f"{model.efficiency(link, size, boards):.0%}")


def largest_speed_up(model, link):
    return max((model.speed_up(link, ranks), ranks) for ranks in RANKS)


def draw_scale(teams, link, models, path):
    """Throughput, efficiency and speed-up of learning against ranks; measured points on the lines of the model."""
    from matplotlib.figure import Figure  # here, for matplotlib takes longer to load than all the rest
    from matplotlib.ticker import EngFormatter, PercentFormatter

    from .plots import BLUE, GREEN, GREY, ORANGE, RED, save, style

    models = [model for model in models if model.critical]
    figure = Figure(figsize=(13, 13), layout="constrained")
    figure.suptitle(f"What more ranks bring. Between them, solid: {ETHERNET.name} (assumed); dashed: {link.name}",
                    fontsize=16, fontweight="bold")
    for model, (speed, share, learning) in zip(models, figure.subplots(3, len(models), squeeze=False).T, strict=True):
        batches = {model.boards: BLUE, 8 * model.boards: GREEN, 64 * model.boards: ORANGE}
        if np.isfinite(model.critical_batch):
            batches[int(model.critical_batch)] = RED
        for boards, colour in sorted(batches.items()):
            label = f"{boards:,} boards" + (": the critical batch" if colour == RED else "")
            ranks = [r for r in RANKS if r <= max(1, model.most_ranks(boards))]
            for way, line in ((ETHERNET, "-"), (link, "--")):
                for axes, value in ((speed, model.throughput), (share, model.efficiency)):
                    axes.plot(ranks, [value(way, r, boards) for r in ranks], line, color=colour,
                              label=label if way is ETHERNET else None, linewidth=2.2 if colour == RED else 1.6)
        mark_measured(speed, share, model, teams)
        learning.plot(RANKS, RANKS, color=GREY, linewidth=1.2, label="as many times as there are ranks")
        for way, line in ((ETHERNET, "-"), (link, "--")):
            learning.plot(RANKS, [model.speed_up(way, r) for r in RANKS], line, color=RED, linewidth=2.2,
                          label="with the best batch for each" if way is ETHERNET else None)
        style(speed, f"{model.name}: {max(model.lengths):,} parameters a sum", "ranks", "shots per second")
        style(share, "Efficiency, while each has a board in each minibatch", "ranks", "efficiency")
        style(learning, "How much sooner the same is learnt", "ranks", "speed-up")
        for axes in (speed, share, learning):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:,.0f}")
        for axes in (speed, learning):
            axes.set_yscale("log")
            axes.legend(frameon=False, fontsize=10)
        speed.yaxis.set_major_formatter(EngFormatter(sep=""))
        learning.yaxis.set_major_formatter("{x:,.0f}")
        share.yaxis.set_major_formatter(PercentFormatter(1))
        share.set_ylim(0, 1.05)
    save(figure, path)


def mark_measured(speed, share, model, teams):
    """What was measured of the default batch."""
    _, _, alone = teams["1 process"]
    collect, learn, shots = alone[model.name, model.boards]
    for (name, (size, _, steps)), marker in zip(teams.items(), "osD", strict=True):
        if (model.name, model.boards) in steps:
            one, other, fired = steps[model.name, model.boards]
            rate = fired / (one + other)
            speed.plot(size, rate, marker, color="black", mfc="none", markersize=8, label=f"measured: {name}")
            share.plot(size, rate * (collect + learn) / shots / size, marker, color="black", mfc="none", markersize=8)
