"""What there is to run:  python -m battleship_grpo"""

import sys

COMMANDS = {
    "train": "train a policy, and watch it learn",
    "evaluate": "mean shots of runs and baselines",
    "play": "watch a game or a run; or play yourself",
    "compare": "which algorithm, or setting, learns best",
    "benchmark": "how fast it is, and could be",
    "preferences": "pairs of games for offline DPO",
    "minimal": "GRPO in one file of NumPy: to be read",
}


def main(arguments):
    if arguments:
        print("error: commands are modules, such as python -m battleship_grpo.train", file=sys.stderr)
        return 2
    for name, purpose in COMMANDS.items():
        print(f"python -m battleship_grpo.{name:<13}{purpose}")
    print("Each but minimal explains itself with --help.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
