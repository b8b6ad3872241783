"""One file per algorithm, to be read from top to bottom; `learner` has what they share, `recipes` their names."""

from .dpo import DPO
from .grpo import GRPO
from .imitation import SFT, Distill, Pretrain
from .ppo import PPO
from .ranked_grpo import RankedGRPO
from .recipes import RECIPES, Recipe
from .reinforce import Reinforce
from .trpo import TRPO

__all__ = ["DPO", "GRPO", "PPO", "RECIPES", "SFT", "TRPO", "Distill", "Pretrain", "RankedGRPO", "Recipe", "Reinforce"]
