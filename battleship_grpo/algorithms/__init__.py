"""One file per algorithm, each to be read from top to bottom; `learner` has what they share."""

from .dpo import DPO
from .grpo import GRPO
from .imitation import SFT, Distill
from .ppo import PPO
from .ranked_grpo import RankedGRPO
from .reinforce import Reinforce
from .trpo import TRPO

METHODS = {"grpo": GRPO, "reinforce": Reinforce, "trpo": TRPO, "ppo": PPO, "dpo": DPO, "ranked_grpo": RankedGRPO,
           "sft": SFT, "distill": Distill}
