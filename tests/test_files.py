"""Files from anywhere: only regular ones are touched, and what they declare is bounded."""

import json
import os
import struct
import tracemalloc
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
from helpers import small_learner

from battleship_grpo import play, preferences
from battleship_grpo.algorithms.imitation import LARGEST_BUFFER
from battleship_grpo.algorithms.recipes import RECIPES
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import Rules
from battleship_grpo.networks.network import MOST_PARAMETERS
from battleship_grpo.players.player import Random
from battleship_grpo.policy import Policy
from battleship_grpo.runs import checkpoint
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.checkpoint import state_of
from battleship_grpo.runs.files import LARGEST_FILE, write_text
from battleship_grpo.runs.folder import RunFolder, read_rows
from battleship_grpo.runs.policy_file import NETWORKS, arrays_of_network, arrays_of_rules
from battleship_grpo.runs.preferences import play_preferences, read_preferences
from battleship_grpo.runs.settings import make_settings, read_config

ENV = BattleshipEnv(Rules())
READERS = {"policy": Policy.load, "checkpoint": checkpoint.load, "settings": read_config, "metrics": read_rows,
           "preferences": lambda path: read_preferences(path, ENV),
           "summary": lambda path: RunFolder(path.parent).read_summary()}


def not_regular(kind, path):
    """At a path, something that is there and is no regular file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_read(reader, kind, tmp_path):
    """A pipe would never begin, a device never end."""
    path = not_regular(kind, tmp_path / ("summary.json" if reader == "summary" else "file"))
    says = "holds no policy" if (reader, kind) == ("policy", "folder") else "not a regular file"
    with pytest.raises((ValueError, OSError), match=says):
        READERS[reader](path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(("main", "options"), [
    (preferences.main, ["--boards", "5", "--output"]), (play.main, ["--save"])])
def test_only_regular_files_are_replaced(main, options, kind, tmp_path, refusal):
    path = not_regular(kind, tmp_path / "out.gif")
    before = os.lstat(path).st_ino
    assert "not a regular file" in refusal(main, "random", "--rules", "tiny", *options, str(path))
    assert os.lstat(path).st_ino == before and list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------- lies


def of_policy(family, **lies):
    """The arrays of a policy file for 5×5, with some of them replaced."""
    network = NETWORKS[family](25, 25, (8, 8), rng=np.random.default_rng(0), fleet=Rules().fleet)
    return arrays_of_network(network) | arrays_of_rules(Rules()) | {
        "network": np.array(family), "format_version": np.array(1)} | lies


def of_preferences(pairs):
    arrays = play_preferences(ENV, Random(ENV.rules), 9, 4, np.random.default_rng(0))
    return {name: np.repeat(array, pairs // len(array), axis=0) for name, array in arrays.items()} | (
        arrays_of_rules(Rules()) | {"format_version": np.array(1)})


def of_checkpoint(**lies):
    """The arrays of a checkpoint, with some of its settings replaced."""
    settings = make_settings(hidden_sizes=(8,), processes=1)
    return state_of(build(settings)) | {name: np.array(kind(1)) for name, kind in checkpoint.DONE.items()} | {
        "settings": np.array(json.dumps(asdict(settings) | lies)), "inputs": np.array("{}"),
        "format_version": np.array(checkpoint.FORMAT_VERSION)}


def not_a_text():
    """Text with a code point that there is not."""
    return np.array([0x7FFFFFFF] * 6, np.uint32).view("<U6").reshape(())


LIES = {
    "many ships": ("policy", lambda: of_policy("mlp", fleet=np.ones(10**6, np.int64))),
    "long text": ("policy", lambda: of_policy("placement", network=np.array("x" * 2 * 10**6))),
    "not a text at all": ("policy", lambda: of_policy("mlp", network=np.zeros((2,) * 20, np.float32))),
    "not a text": ("policy", lambda: of_policy("placement", encoding=not_a_text())),
    "an empty layer": ("policy", lambda: of_policy(
        "mlp", W1=np.zeros((50, 0), np.float32), b1=np.zeros(0, np.float32), W2=np.zeros((0, 8), np.float32))),
    "wide": ("policy", lambda: of_policy("mlp", W1=np.zeros((50, 2**15), np.float32))),
    "control characters": ("policy", lambda: of_policy("mlp", **{"\x1b[2J" * 50: np.array([None])})),
    "heavy": ("policy", lambda: of_policy("placement", E1=np.full((8, 2, 3), 3e38, np.float32))),
    "another fleet": ("policy", lambda: of_policy("placement", fleet=np.array([2, 3]))),
    "many games": ("preferences", lambda: of_preferences(300_000)),
    "larger network": ("checkpoint", lambda: of_checkpoint(hidden_sizes=(16384, 16384))),
    "many layers": ("checkpoint", lambda: of_checkpoint(hidden_sizes=(8,) * 10**5)),
}


@pytest.mark.parametrize("lie", LIES)
def test_declared_sizes_are_bounded_before_anything_is_built(lie, tmp_path):
    """One short line without control characters, and no more memory than a few times the file, unpacked."""
    reader, arrays = LIES[lie]
    arrays, path = arrays(), tmp_path / "liar.npz"
    np.savez_compressed(path, **arrays)
    tracemalloc.start()
    with pytest.raises(ValueError, match="liar") as error:
        READERS[reader](path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(error.value).isprintable() and len(str(error.value)) < 600
    assert peak < 8 * 2**20 + 2 * sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize(("shape", "unpacked", "declared"), [
    (2**23, 2**25, None),  # a small file that unpacks to much
    (2**33, 2**20, None), (2**33, 2**20, 2**32 - 2), (2**33, 2**20, 2**31),  # more than it has
    (4, 2**26, 144)])  # its directory declares little, and it unpacks to much
@pytest.mark.parametrize("reader", ["policy", "checkpoint"])
def test_a_file_that_declares_too_much_is_refused_before_memory_is_taken(reader, shape, unpacked, declared, tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("W1.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (shape,)})
        file.write(bytes(unpacked))
    if declared:
        content = path.read_bytes()
        place = content.rfind(b"PK\1\2") + 24
        path.write_bytes(content[:place] + struct.pack("<I", declared) + content[place + 4 :])
    tracemalloc.start()
    with pytest.raises(ValueError, match="bomb"):
        READERS[reader](path)
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def test_file_is_written_with_the_usual_rights_and_through_no_link(tmp_path):
    target, path, touched = tmp_path / "target", tmp_path / "file", tmp_path / "touched"
    target.write_text("kept")
    path.symlink_to(target)
    touched.touch()
    write_text(path, "new")
    assert (path.read_text(), target.read_text()) == ("new", "kept") and not path.is_symlink()
    assert path.stat().st_mode == touched.stat().st_mode


# ------------------------------------------------------------------------------------- what can be saved


@pytest.mark.parametrize("algorithm", RECIPES)
def test_networks_that_no_file_can_hold_are_refused_before_training(algorithm):
    """The largest that are not refused fit, with all that an algorithm remembers of them."""
    with pytest.raises(ValueError, match="too large to be saved"):
        make_settings(algorithm=algorithm, hidden_sizes=(16384, 16384))
    learner = small_learner(algorithm, np.random.default_rng(0))
    state = {name: array for name, array in state_of(learner).items() if not name.startswith("buffer")}
    networks = {len(network.parameters): name for name, network in learner.networks.items()}
    vectors = sum(len(array) in networks for array in state.values() if array.ndim == 1)
    buffer = LARGEST_BUFFER if hasattr(learner, "buffer") else 0
    assert vectors >= 3 and vectors * MOST_PARAMETERS * 4 + buffer < checkpoint.LARGEST_CHECKPOINT
    assert MOST_PARAMETERS * 4 < LARGEST_FILE


def test_games_that_no_file_can_hold_are_refused_before_they_are_played(tmp_path, refusal):
    options = ["--rules", "classic", "--boards", "1000000", "--output", str(tmp_path / "x.npz")]
    assert "too many to hold at once" in refusal(preferences.main, "random", *options)
