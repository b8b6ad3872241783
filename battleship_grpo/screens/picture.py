"""A screen as an .svg, to be shown where there is no terminal."""

import io

from rich.console import Console

from ..runs.files import write_text
from .boards import ASCII, EMOJI, Look

# rich squeezes characters that are two columns wide: cells are letters here
PICTURE = Look(EMOJI._replace(water=ASCII.water, ship=ASCII.ship, miss=ASCII.miss, hit=ASCII.hit), colour=True)


def save_screen(path, renderable, width, title):
    """Write what a terminal of so many columns shows. Raises ValueError, in one line, where there is no writing."""
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True, color_system="truecolor",
                      highlight=False, markup=False, emoji=False)
    console.print(renderable)
    try:
        write_text(path, console.export_svg(title=title))
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None
